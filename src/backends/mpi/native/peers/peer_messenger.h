// What ranks tell each other beside their ops: that one has left a group, or given it up.
#pragma once

#include <mpi.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/failure.h"

namespace c10d::mpi_shim {

struct Notice {
  enum Kind : uint32_t {
    /// The group has failed there.
    failed = 1,
    /// It was closed there, with nothing under way.
    closed = 2,
    /// The process has come to its end without closing it.
    ended = 3,
  };
  uint64_t group;
  uint32_t kind;
  /// Who says so: rank in the group.
  int32_t rank;
  /// Collectives that it took part in; of a failure, up to the one that the ranks called differently, or 0.
  uint64_t collectives;
  /// Of a failure: the rank that caused it, or -1, and its c10d_status.
  int32_t cause;
  int32_t status;
  char text[480];
};

/// This rank in one group.
class Membership {
 public:
  /// `ranks`: those of the members in MPI_COMM_WORLD.
  Membership(int rank, std::vector<int> ranks) : rank_(rank), ranks_(std::move(ranks)) {}

  /// Collectives so far.
  std::atomic<uint64_t> collectives{0};

  /// What was said since the first `seen` notices; counts those too.
  std::vector<Notice> news(size_t& seen);

 private:
  friend class NoticeBoard;

  const int rank_;
  const std::vector<int> ranks_;
  uint64_t group_ = 0;
  bool has_told_ = false;
  std::mutex mutex_;
  std::vector<Notice> heard_;
  std::atomic<size_t> heard_count_{0};
};

/// The notices of all groups of the process. They go over MPI_COMM_WORLD: a group's own communicator may be gone on the
/// other side, and what MPI then does with a message may harm the next communicator that gets its number.
///
/// All but open() and forget() call MPI, so they are for Runtime::call(). Only end() waits for another rank.
class NoticeBoard {
 public:
  /// `world_size`: ranks of the job; `tag`: of messages over MPI_COMM_WORLD that are notices.
  void open(int world_size, int tag);

  /// From now on the member hears of the others. `group` is the same number for all of them, and for no other group.
  void join(const std::shared_ptr<Membership>& member, uint64_t group);
  /// Tells the other members that the group has failed here, unless it was left or has failed before.
  void tell_failure(Membership& member, const Failure& cause);
  /// Tells them that the group was closed here. Its communicator is freed when they have said the same, since until then
  /// messages may be on their way.
  void leave(const std::shared_ptr<Membership>& member, MPI_Comm communicator);
  /// Takes in what has come.
  void look();
  /// Nobody is to hear of it any more; for a group that was not left.
  void forget(const Membership& member);
  /// Tells the members of groups that are still open that this process has come to its end. `all_listen`: then takes in
  /// what is still on its way, for which it waits until every rank of the job has come to its end.
  void end(bool all_listen);

 private:
  struct Sent {
    std::unique_ptr<Notice> notice;
    MPI_Request request;
  };
  /// A communicator that waits to be freed.
  struct Left {
    MPI_Comm communicator;
    uint64_t collectives;
    /// Members that have not yet said that they have left.
    size_t awaited;
  };

  void send(Membership& member, Notice::Kind kind, const Failure* cause = nullptr);
  bool sent_all();
  void send_rest(std::chrono::milliseconds limit);
  void listen();
  void receive_all();
  void receive();
  void deliver(const Notice& notice);
  void free_left(uint64_t group, const Notice& notice);

  int tag_ = 0;
  /// Guards what needs MPI.
  std::mutex calls_;
  MPI_Request receiving_ = MPI_REQUEST_NULL;
  Notice received_{};
  std::deque<Sent> sent_;
  /// By rank of the job, how many notices it was sent; and how many have come here.
  std::vector<int> sent_counts_;
  int received_count_ = 0;
  std::unordered_map<uint64_t, Left> left_;
  bool ended_ = false;
  /// Guards the rest; nothing is called while it is held.
  std::mutex mutex_;
  std::unordered_map<uint64_t, std::shared_ptr<Membership>> members_;
};

}  // namespace c10d::mpi_shim
