// This rank as a member of one group.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "peers/peer_message.h"

namespace c10d::mpi_shim {

class Membership {
 public:
  /// `ranks`: the ranks of the members in MPI_COMM_WORLD.
  Membership(int rank, std::vector<int> ranks)
      : rank_(rank), ranks_(std::move(ranks)), sent_to_(ranks_.size()), received_from_(ranks_.size()) {}

  /// Collectives so far.
  std::atomic<uint64_t> collectives{0};

  /// Counts a message of a user to or from a rank of the group.
  void note_sent_to(int rank) { sent_to_[static_cast<size_t>(rank)]++; }
  void note_received_from(int rank) { received_from_[static_cast<size_t>(rank)]++; }

  /// The messages that were received after the first `seen`; adds their number to `seen`.
  std::vector<PeerMessage> received_since(size_t& seen);

 private:
  friend class PeerMessenger;

  const int rank_;
  const std::vector<int> ranks_;
  std::vector<std::atomic<uint64_t>> sent_to_;
  std::vector<std::atomic<uint64_t>> received_from_;
  uint64_t group_ = 0;
  /// Whether the other members were sent this rank's only message.
  bool notified_ = false;
  std::mutex mutex_;
  std::vector<PeerMessage> received_;
  std::atomic<size_t> received_count_{0};
};

}  // namespace c10d::mpi_shim
