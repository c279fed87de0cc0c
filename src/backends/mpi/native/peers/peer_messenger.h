// Sends and receives the PeerMessages of all groups of the process.
#pragma once

#include <mpi.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "ops/failure.h"
#include "peers/membership.h"
#include "peers/peer_message.h"

namespace c10d::mpi_shim {

/// The messages are sent over MPI_COMM_WORLD. The group's own communicator may be freed on the other side, and MPI may
/// then deliver a message to the next communicator that gets its number.
///
/// All methods but open() and forget() call MPI, so they are called within Runtime::call(). Only end() waits for other
/// ranks.
class PeerMessenger {
 public:
  /// `world_size`: ranks of the job; `tag`: the tag of these messages on MPI_COMM_WORLD.
  void open(int world_size, int tag);

  /// From now on the member receives messages of the others. `group` is the same number on all of them, and no other
  /// group has it.
  void join(const std::shared_ptr<Membership>& member, uint64_t group);
  /// Notifies the other members that the group has failed here, unless it was left or has failed before.
  void notify_failure(Membership& member, const Failure& cause);
  /// Notifies them that the group was closed here. Its communicator is freed when they have said the same, since until
  /// then messages may be in flight.
  void leave(const std::shared_ptr<Membership>& member, MPI_Comm communicator);
  /// Receives what has arrived. Does not block.
  void poll();
  /// Delivers no more messages to the member; for a group that was not left.
  void forget(const Membership& member);
  /// Notifies the members of groups that are still open that this process ends. `all_receive`: then receives what is
  /// still in flight, for which it waits until every rank of the job has ended.
  void end(bool all_receive);

 private:
  struct Sent {
    std::unique_ptr<PeerMessage> message;
    MPI_Request request;
  };
  /// A communicator that is yet to be freed.
  struct Left {
    MPI_Comm communicator;
    /// What this rank took part in.
    std::shared_ptr<Membership> member;
    /// Members that have not yet sent that they left.
    size_t awaited;
  };

  void send(Membership& member, PeerMessage::Kind kind, const Failure* cause = nullptr);
  bool sent_all();
  void send_rest(std::chrono::milliseconds limit);
  void post_receive();
  void receive_all();
  void receive();
  void deliver(const PeerMessage& message);
  void free_left(uint64_t group, const PeerMessage& message);

  int tag_ = 0;
  /// Guards what is used together with MPI.
  std::mutex calls_;
  MPI_Request receive_request_ = MPI_REQUEST_NULL;
  PeerMessage received_{};
  std::deque<Sent> sent_;
  /// How many messages each rank of the job was sent, and how many were received here.
  std::vector<int> sent_counts_;
  int received_count_ = 0;
  std::unordered_map<uint64_t, Left> left_;
  bool ended_ = false;
  /// Guards the members; MPI is not called while it is held.
  std::mutex mutex_;
  std::unordered_map<uint64_t, std::shared_ptr<Membership>> members_;
};

}  // namespace c10d::mpi_shim
