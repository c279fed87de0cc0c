// MPI in this process: begun once, ended once, and used by one thread only where the library wants that.
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
#include "engine/op.h"
#include "peers/peer_messenger.h"
#include "process/idle_yield.h"
#include "process/pmi_socket.h"

namespace c10d::mpi_shim {

/// Throws Failure with MPI's own text if a call has failed.
void require_success(int code, const char* call);
/// MPI's text for an error code.
std::string error_text(int code);

class Runtime {
 public:
  enum class State : int { idle = 0, starting = 1, up = 2, failed = 3, ended = 4 };

  /// The only one; it outlives every thread.
  static Runtime& get();

  /// Begins MPI_Init_thread on a thread of its own, the first time. `multiple`: asks for MPI_THREAD_MULTIPLE, else for
  /// MPI_THREAD_FUNNELED. `mixed`: some ranks are other programs.
  void start(bool multiple, bool mixed);
  State state() const { return state_; }
  /// Why it failed.
  std::string error() const;

  int rank() const { return rank_; }
  int size() const { return size_; }
  int thread_level() const { return thread_level_; }
  /// Whether any thread may call MPI; else all calls go through the thread that began it.
  bool any_thread() const { return thread_level_ == MPI_THREAD_MULTIPLE; }
  /// Highest tag of a message.
  int max_tag() const { return max_tag_; }

  /// Calls MPI: here, or on its own thread. Throws what `body` throws, and Failure when MPI has ended.
  template <class Body>
  void call(Body body) {
    if (!any_thread()) return call_there(std::ref(body));
    const Presence presence(*this);
    body();
  }

  /// Calls MPI on its own thread, later; not if MPI ends before. Does not block, so it is for threads that must not.
  void post(std::function<void()> body);

  /// Has a communicator made on a thread that may wait in MPI for long: one that is there for that, else that which began MPI, as
  /// `body` is told. One at a time, as turns are.
  void make_apart(std::function<void(bool on_own_thread_of_mpi)> body);

  /// Before the process ends with this code: MPI_Finalize, or MPI_Abort if it is not 0. Again, it does nothing.
  void end_process(int code) noexcept;

  /// Native calls that have begun and not ended, on all groups: they forbid an orderly end.
  std::atomic<int> unfinished{0};
  /// Of these, threads in MPI that make a communicator.
  std::atomic<int> making{0};

  IdleYield& idle_yield() { return idle_yield_; }
  NoticeBoard& notices() { return notices_; }
  /// A number, not 0, that no other group of the job gets.
  uint64_t group_number() { return (static_cast<uint64_t>(rank_) << 32) + ++groups_; }

  /// Of the making of communicators.
  Turns& turns() { return turns_; }
  /// Leaves a turn whose group is given up to the host's settle_turn(), which may have come before: see Turns::leave_undecided().
  void leave_turn_undecided(uint64_t turn, Clock::duration limit, const std::shared_ptr<const Formation>& formation);
  /// See Turns::settle(). Where the other ranks are making the group, this one does that too, on another thread.
  void settle_turn(uint64_t turn, Turns::Decision decision, const std::vector<int>& missing);

 private:
  /// A thread that is in a call, so that MPI is not ended under it.
  class Presence {
   public:
    explicit Presence(Runtime& runtime);
    ~Presence() { runtime_.present_--; }
    Presence(const Presence&) = delete;
    Presence& operator=(const Presence&) = delete;

   private:
    Runtime& runtime_;
  };

  Runtime() = default;
  void serve(bool multiple);
  void begin(bool multiple);
  void end();
  void finalize(double limit_ms);
  void abort(int code) noexcept;
  void call_there(const std::function<void()>& body);
  void follow(uint64_t turn, Turns::Decision decision, const std::shared_ptr<const Formation>& formation);

  std::atomic<State> state_{State::idle};
  std::string error_;
  int rank_ = 0;
  int size_ = 1;
  int thread_level_ = MPI_THREAD_MULTIPLE;
  int max_tag_ = 32767;
  bool ours_ = true;
  bool mixed_ = false;
  IdleYield idle_yield_;
  NoticeBoard notices_;
  Turns turns_;
  const PmiSocket pmi_socket_;
  std::atomic<uint32_t> groups_{0};

  void serve_makings();
  std::mutex making_mutex_;
  std::condition_variable making_wanted_;
  std::deque<std::function<void(bool)>> makings_;
  bool makings_served_ = false;

  struct Request {
    const std::function<void()>* body;
    std::exception_ptr thrown;
    bool done = false;
  };
  mutable std::mutex mutex_;
  std::condition_variable asked_;
  std::condition_variable answered_;
  std::deque<Request*> requests_;
  std::deque<std::function<void()>> posted_;
  bool ending_ = false;
  std::atomic<bool> process_ends_{false};
  std::atomic<bool> closed_{false};
  std::atomic<int> present_{0};
};

}  // namespace c10d::mpi_shim
