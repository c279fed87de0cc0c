// TCP connections of a rank to all others. Collectives over them need no thread but the caller's.
#pragma once

#include <sched.h>
#include <sys/uio.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "mesh/socket.h"
#include "ops/signature.h"

namespace c10d {

/// Thrown when the connection to a rank breaks.
struct ConnectionLost {
  int rank;
  std::string what;
};

/// One connection per peer. Collectives take turns on them in the order of their sequence numbers, which are the same
/// on all ranks, so messages need no tags. Each collective begins with a header on every connection that it uses. The
/// header says what is called: ranks whose calls differ fail with C10D_ERR_DESYNC.
class Connections {
 public:
  /// `apart`: one of the two ranks has ended more collectives than the other, so both may call the same as the rest.
  using OnMismatch = std::function<void(const Failure&, bool apart)>;
  /// `sockets` by rank; the own entry is empty. `on_mismatch` is called as soon as calls are known to differ, and again
  /// if the two ranks that all ranks name turn out to be others.
  Connections(int rank, std::vector<Fd> sockets, OnMismatch on_mismatch = nullptr);
  ~Connections();
  Connections(const Connections&) = delete;
  Connections& operator=(const Connections&) = delete;

  int rank() const { return rank_; }
  int size() const { return static_cast<int>(connections_.size()); }
  /// Whether the group is small enough for every rank to compare its calls with those of all others, and so to see each
  /// mismatch itself. In a larger group some ranks see it and notify the others.
  bool all_compare() const { return size() <= kAllCompare; }

  /// Turns count from 1 and begin again before they need the highest bit.
  static constexpr uint32_t kFirstTurn = 1;
  static uint32_t turn_after(uint32_t turn) { return turn == 0x7fffffff ? kFirstTurn : turn + 1; }
  /// Waits until the collectives before this one are done. Throws Failure when aborted.
  void await_turn(uint32_t sequence);
  bool has_turn(uint32_t sequence);

  /// The connections while it is the turn of one collective.
  class Turn {
   public:
    Turn(Connections& owner, const Op& op);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

    /// For an all-to-all, before the headers: the bytes that this rank sends to a rank, or itself, and expects from it.
    /// Where all ranks compare, these sizes follow the header, so that a third rank also sees that the parts of two do
    /// not fit.
    void set_part(int rank, uint64_t sends, uint64_t expects);
    /// Exchanges headers with a peer: how many bytes each sends and expects. Comes before anything else with that peer.
    void exchange_headers(int peer, uint64_t sends, uint64_t expects);
    /// Queues a send or a receive. Both are FIFO on a connection. Empty ones are left out.
    void send(int peer, const void* data, size_t bytes);
    void receive(int peer, void* data, size_t bytes);
    /// Spans to receive from a peer, its header among them: those queued so far, and those that are complete.
    size_t queued(int peer) const { return owner_.connections_[static_cast<size_t>(peer)].in.spans.size(); }
    size_t received(int peer) const { return owner_.connections_[static_cast<size_t>(peer)].in.at; }
    /// Uninitialized memory for what peers send before it is reduced. It is valid until the end of the turn.
    uint8_t* scratch(size_t bytes);
    /// Sends and receives what is possible without waiting, on any thread. Calls that differ are already found here,
    /// but reported by the next call.
    void start();
    bool idle() const;
    /// Sends and receives until `done()`, or until all is done.
    template <class Done>
    void await(Done done) {
      owner_.run_until(done, Clock::time_point::max());
    }
    /// The same, but returns false at the deadline.
    template <class Done>
    bool await_until(Done done, Clock::time_point deadline) {
      if (owner_.run_until(done, deadline)) return true;
      if (owner_.mismatch_) throw Failure(*owner_.mismatch_);
      return false;
    }
    void finish() { finish_by(Clock::time_point::max()); }
    /// Sends and receives until the deadline. Returns whether all is done.
    bool finish_by(Clock::time_point deadline);

   private:
    Connections& owner_;
    const Call call_;
    const int unwinding_;
    bool sends_parts_ = false;
  };

  /// Makes every collective on these connections fail, now and later.
  void abort() noexcept;
  /// A rank that the collective in flight waits for, or -1. Also past its deadline, until it ends.
  int awaited() const { return awaited_; }

 private:
  struct Queue {
    std::vector<iovec> spans;
    size_t at = 0;
    bool empty() const { return at == spans.size(); }
    void push(void* data, size_t bytes) { spans.push_back({data, bytes}); }
    /// Removes bytes that were sent or received.
    void advance(size_t bytes);
  };
  struct Header {
    Signature signature;
    /// A rank that exchanges nothing with another one in a collective may be one ahead of it.
    uint64_t turn = 0;
  };
  static_assert(sizeof(Header) == sizeof(Signature) + 8, "has padding");
  struct Connection {
    Fd socket;
    Queue out;
    Queue in;
    Header own{};
    Header theirs{};
    /// Spans before the data in both directions: the Header, and then the sizes of the parts of an all-to-all.
    size_t headers = 0;
    size_t compared = 0;
    bool to_compare() const { return compared < headers; }
  };

  /// Sends and receives what is possible now. Returns whether that was anything.
  bool move(int peer);
  bool send_some(int peer);
  bool receive_some(int peer);
  bool move_all();
  /// Sets awaited_ to what the spans in the queues say.
  void note_awaited();
  /// Blocks until there may be more to do. Returns false if the deadline comes first.
  bool sleep(Clock::time_point deadline);
  bool exhausted(const Connection& connection) const { return connection.in.empty() && connection.out.empty(); }
  template <class Done>
  bool run_until(Done done, Clock::time_point deadline) {
    for (int looks = 0;;) {
      if (mismatch_) {
        if (!let_others_compare(deadline)) return false;
        throw Failure(*mismatch_);
      }
      if (done()) return true;
      if (move_all()) {
        looks = 0;
      } else if (looks < kLooks) {
        // On a busy machine the looks take long.
        if (looks++ == 0) note_awaited();
        ::sched_yield();
      } else if (!sleep(deadline)) {
        return !mismatch_ && done();
      }
    }
  }

  // The comparison of calls, in connections_comparison.cc.
  /// Compares the headers of a peer with what this rank calls, and sets mismatch_.
  void compare(int peer);
  /// Reads the headers that have arrived from all ranks, since a connection can also break because two other ranks
  /// called different things.
  void compare_all();
  /// The signature of one rank for another, if it has arrived and both are at the same collective as this rank.
  std::optional<Signature> signature_of(int rank, int other);
  /// The mismatch that every rank reports that knows all headers.
  std::optional<Failure> first_of_all();
  void set_mismatch(std::optional<Failure> mismatch, bool apart = false);
  /// Replaces mismatch_ by first_of_all(), as far as headers have arrived.
  void name_first();
  /// Sends the headers that are still queued, so that the others can compare.
  void send_headers();
  uint64_t* parts_of(int rank) { return parts_.data() + 2 * connections_.size() * static_cast<size_t>(rank); }
  /// Keeps the connections open for a while after a mismatch, so that the others can compare too. Returns false if the
  /// deadline comes before the end of that time.
  bool let_others_compare(Clock::time_point deadline);

  /// How often the sockets are tried before sleeping; each try yields to other threads.
  static constexpr int kLooks = 60;
  static constexpr int kAllCompare = 8;

  const int rank_;
  std::vector<Connection> connections_;
  const OnMismatch on_mismatch_;
  std::mutex mutex_;
  std::condition_variable turn_over_;
  uint32_t turn_ = kFirstTurn;
  std::unique_ptr<uint8_t[]> scratch_;
  size_t scratch_bytes_ = 0;
  /// How two calls differ: the group is about to fail.
  std::optional<Failure> mismatch_;
  /// Of an all-to-all, for each rank whose sizes have arrived: the bytes that it sends to each rank, and then those
  /// that it expects from each.
  std::vector<uint64_t> parts_;
  /// Ranks whose sizes have not arrived.
  int parts_missing_ = 0;
  Clock::time_point others_until_{};
  bool all_compared_ = false;
  std::atomic<bool> aborted_{false};
  std::atomic<int> awaited_{-1};
};

}  // namespace c10d
