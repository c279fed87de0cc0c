// MPI in this process: started once, ended once, and called by one thread only if the library requires that.
#pragma once

#include <mpi.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "creation/turns.h"
#include "ops/op.h"
#include "peers/peer_messenger.h"
#include "process/idle_yield.h"
#include "process/pmi_socket.h"

namespace c10d::mpi_shim {

/// Throws Failure with MPI's own text if a call failed.
void require_success(int code, const char* call);
/// MPI's text for an error code.
std::string error_text(int code);

class Runtime {
 public:
  enum class State : int { idle = 0, starting = 1, up = 2, failed = 3, ended = 4 };

  /// The only instance; it outlives every thread.
  static Runtime& get();

  /// The first call begins MPI_Init_thread on a thread of its own. `multiple`: requests MPI_THREAD_MULTIPLE, otherwise
  /// MPI_THREAD_FUNNELED. `mixed`: some ranks are other programs.
  void start(bool multiple, bool mixed);
  State state() const { return state_; }
  /// Why it failed.
  std::string error() const;

  int rank() const { return rank_; }
  int size() const { return size_; }
  int thread_level() const { return thread_level_; }
  /// Whether any thread may call MPI; otherwise only the thread that started it does.
  bool any_thread() const { return thread_level_ == MPI_THREAD_MULTIPLE; }
  /// Highest tag of a message.
  int max_tag() const { return max_tag_; }

  /// Calls MPI, here or on its own thread. Throws what `body` throws, and Failure when MPI has ended.
  template <class Body>
  void call(Body body) {
    if (!any_thread()) return call_on_own_thread(std::ref(body));
    const ActiveCall active(*this);
    body();
  }

  /// Calls MPI later on its own thread, unless MPI ends before. Does not block.
  void post(std::function<void()> body);

  /// Makes a communicator on a thread that may wait in MPI for a long time: a thread for this purpose, or else the one
  /// that started MPI, as the argument of `body` says. One at a time, like turns.
  void make_on_other_thread(std::function<void(bool on_mpi_thread)> body);

  /// Called before the process exits with this code: MPI_Finalize, or MPI_Abort if it is not 0. Further calls do
  /// nothing.
  void end_process(int code) noexcept;

  /// Native calls of all groups that have begun and not ended: with any of them MPI cannot end cleanly.
  std::atomic<int> unfinished{0};
  /// Threads in MPI that make a communicator; included in `unfinished`.
  std::atomic<int> making{0};

  IdleYield& idle_yield() { return idle_yield_; }
  PeerMessenger& messenger() { return messenger_; }
  /// A number other than 0 that no other group of the job gets.
  uint64_t group_number() { return (static_cast<uint64_t>(rank_) << 32) + ++groups_; }

  /// The turns in which communicators are made.
  Turns& turns() { return turns_; }
  /// Leaves a turn whose group is given up to the host's settle_turn(), which may have been called before: see
  /// Turns::leave_undecided().
  void leave_turn_undecided(uint64_t turn, Clock::duration limit, const std::shared_ptr<const CommunicatorSpec>& spec);
  /// See Turns::settle(). If the other ranks are making the group, this one makes it too, on another thread.
  void settle_turn(uint64_t turn, Turns::Decision decision, const std::vector<int>& missing);

 private:
  /// A thread that is in a call, so that MPI is not ended meanwhile.
  class ActiveCall {
   public:
    explicit ActiveCall(Runtime& runtime);
    ~ActiveCall() { runtime_.active_calls_--; }
    ActiveCall(const ActiveCall&) = delete;
    ActiveCall& operator=(const ActiveCall&) = delete;

   private:
    Runtime& runtime_;
  };

  Runtime() = default;
  void serve(bool multiple);
  void begin(bool multiple);
  void end();
  void finalize(double limit_ms);
  void abort(int code) noexcept;
  void call_on_own_thread(const std::function<void()>& body);
  void follow(uint64_t turn, Turns::Decision decision, const std::shared_ptr<const CommunicatorSpec>& spec);

  std::atomic<State> state_{State::idle};
  std::string error_;
  int rank_ = 0;
  int size_ = 1;
  int thread_level_ = MPI_THREAD_MULTIPLE;
  int max_tag_ = 32767;
  bool ours_ = true;
  bool mixed_ = false;
  IdleYield idle_yield_;
  PeerMessenger messenger_;
  Turns turns_;
  const PmiSocket pmi_socket_;
  std::atomic<uint32_t> groups_{0};

  void run_makings();
  std::mutex making_mutex_;
  std::condition_variable making_wanted_;
  std::deque<std::function<void(bool)>> makings_;
  bool making_thread_started_ = false;

  struct Request {
    const std::function<void()>* body;
    std::exception_ptr thrown;
    bool done = false;
  };
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  std::deque<Request*> requests_;
  std::deque<std::function<void()>> posted_;
  bool ending_ = false;
  std::atomic<bool> process_ends_{false};
  std::atomic<bool> closed_{false};
  std::atomic<int> active_calls_{0};
};

}  // namespace c10d::mpi_shim
