// Connections beside Gloo's, between ranks that are all Bun's: collectives over them need no thread but the caller's.
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

#include "engine/signature.h"
#include "mesh/socket.h"

namespace c10d {

/// A line failed: it says which, and how.
struct LineBroken {
  int rank;
  std::string what;
};

/// One connection per peer. Collectives take turns on them, in the order of their sequence numbers, which are the same on
/// all ranks; so what is sent needs no tags. Each begins with a header on every line that it uses, which says what is
/// called: ranks whose calls differ fail with C10D_ERR_DESYNC.
class Lines {
 public:
  /// `apart`: one of the two ranks has ended more collectives than the other, so that both may call the same as the rest.
  using OnMismatch = std::function<void(const Failure&, bool apart)>;
  /// `sockets` by rank; the own entry is empty. `on_mismatch` is called as soon as calls are known to differ,
  /// and again when the two ranks that all name are known to be others.
  Lines(int rank, std::vector<Fd> sockets, OnMismatch on_mismatch = nullptr);
  ~Lines();
  Lines(const Lines&) = delete;
  Lines& operator=(const Lines&) = delete;

  int rank() const { return rank_; }
  int size() const { return static_cast<int>(lines_.size()); }
  /// Whether the group is so small that every rank compares its calls with those of all others, so that it sees a mismatch itself. In
  /// a larger one some do, and tell the others.
  bool all_compare() const { return size() <= kAllCompare; }

  /// Turns count from 1 and begin again before they need the highest bit.
  static constexpr uint32_t kFirstTurn = 1;
  static uint32_t turn_after(uint32_t turn) { return turn == 0x7fffffff ? kFirstTurn : turn + 1; }
  /// Waits until the collectives before this one are done. Throws Failure when aborted.
  void await_turn(uint32_t sequence);
  bool has_turn(uint32_t sequence);

  /// The lines for the length of one collective, whose turn it is.
  class Turn {
   public:
    Turn(Lines& lines, const Op& op);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

    /// Of an all-to-all, before the headers: what this rank sends to another one, or itself, and expects from it. Where all
    /// compare, that of all ranks follows the header, so that a third rank too sees that parts of two do not fit.
    void set_part(int rank, uint64_t sends, uint64_t expects);
    /// Exchanges headers with a peer, which say how many bytes each sends and expects. Before anything else with it.
    void exchange_headers(int peer, uint64_t sends, uint64_t expects);
    /// Queues a send or a receive; both are FIFO on a line. Empty ones are left out.
    void send(int peer, const void* data, size_t bytes);
    void receive(int peer, void* data, size_t bytes);
    /// Spans of a peer that were queued for receiving, and that have come, its header among them.
    size_t queued(int peer) const { return lines_.lines_[static_cast<size_t>(peer)].in.spans.size(); }
    size_t received(int peer) const { return lines_.lines_[static_cast<size_t>(peer)].in.at; }
    /// Memory for what peers send before it is folded: not initialized, and there until the end of the turn.
    uint8_t* scratch(size_t bytes);
    /// Sends and receives what is possible without waiting, on whichever thread. Calls that differ are found here already,
    /// but reported by what comes next.
    void start();
    bool idle() const;
    /// Sends and receives until `done()`, or all of it.
    template <class Done>
    void await(Done done) {
      lines_.run_until(done, Clock::time_point::max());
    }
    /// The same, but returns false at the deadline.
    template <class Done>
    bool await_until(Done done, Clock::time_point deadline) {
      if (lines_.run_until(done, deadline)) return true;
      if (lines_.mismatch_) throw Failure(*lines_.mismatch_);
      return false;
    }
    void finish() { finish_by(Clock::time_point::max()); }
    /// Sends and receives while the deadline allows. Returns whether that was all.
    bool finish_by(Clock::time_point deadline);

   private:
    Lines& lines_;
    const Call call_;
    const int unwinding_;
    bool sends_parts_ = false;
  };

  /// Makes every collective on the lines fail, now and later.
  void abort() noexcept;
  /// A rank that the collective under way waits for, or -1.
  int awaited() const { return awaited_; }

 private:
  struct Queue {
    std::vector<iovec> spans;
    size_t at = 0;
    bool empty() const { return at == spans.size(); }
    void push(void* data, size_t bytes) { spans.push_back({data, bytes}); }
    /// Takes note of bytes that went or came.
    void advance(size_t bytes);
  };
  struct Header {
    Signature signature;
    /// A rank that exchanges nothing with another one in a collective may be one ahead of it.
    uint64_t turn = 0;
  };
  static_assert(sizeof(Header) == sizeof(Signature) + 8, "has padding");
  struct Line {
    Fd socket;
    Queue out;
    Queue in;
    Header own{};
    Header theirs{};
    /// Spans that come before the data in both directions: the Header, and then the parts of an all-to-all.
    size_t headers = 0;
    size_t compared = 0;
    bool to_compare() const { return compared < headers; }
  };

  /// Sends and receives what is possible now. Returns whether that was anything.
  bool move(int peer);
  bool send_some(int peer);
  bool receive_some(int peer);
  bool move_all();
  /// Blocks until there may be more to do. Returns false if the deadline comes first.
  bool sleep(Clock::time_point deadline);
  /// Compares what has come before the data with what this rank calls: sets mismatch_.
  void compare(int peer);
  /// Looks at the headers that have come from other ranks, since a line breaks too because two of them have called
  /// something else.
  void compare_all();
  /// What a rank has for another one, as far as that has come, and where both are at the collective of this one.
  std::optional<Signature> signature_of(int rank, int other);
  /// The mismatch that all name who know all.
  std::optional<Failure> first_of_all();
  void set_mismatch(std::optional<Failure> mismatch, bool apart = false);
  /// Names that one, as far as headers have come, in place of the one that was found first.
  void name_first();
  /// Gives the others what they compare, if that was not possible before.
  void send_headers();
  uint64_t* parts_of(int rank) { return parts_.data() + 2 * lines_.size() * static_cast<size_t>(rank); }
  /// Keeps the connections open after a mismatch, so that the others can compare too. Returns false if the deadline comes
  /// before that was long enough.
  bool let_others_compare(Clock::time_point deadline);
  bool exhausted(const Line& line) const { return line.in.empty() && line.out.empty(); }
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
        looks++;
        ::sched_yield();
      } else if (!sleep(deadline)) {
        return !mismatch_ && done();
      }
    }
  }

  /// Looks at the sockets before sleeping; each gives way to other threads.
  static constexpr int kLooks = 60;
  static constexpr int kAllCompare = 8;

  const int rank_;
  std::vector<Line> lines_;
  const OnMismatch on_mismatch_;
  std::mutex mutex_;
  std::condition_variable turn_over_;
  uint32_t turn_ = kFirstTurn;
  std::unique_ptr<uint8_t[]> scratch_;
  size_t scratch_bytes_ = 0;
  /// In what two calls differ: the group is about to fail.
  std::optional<Failure> mismatch_;
  /// Of an all-to-all, for each rank that has come: the bytes that it sends to each, and those that it expects from each.
  std::vector<uint64_t> parts_;
  /// Ranks whose parts have not come.
  int parts_missing_ = 0;
  Clock::time_point others_until_{};
  bool all_compared_ = false;
  std::atomic<bool> aborted_{false};
  std::atomic<int> awaited_{-1};
};

}  // namespace c10d
