// The messages that ranks send each other beside their ops: that one has left a group, or that the group has failed
// there.
#pragma once

#include <cstdint>

namespace c10d::mpi_shim {

struct PeerMessage {
  enum Kind : uint32_t {
    /// The group has failed there.
    failed = 1,
    /// The group was closed there, with no op in flight.
    closed = 2,
    /// The process has ended without closing the group.
    ended = 3,
  };
  uint64_t group;
  uint32_t kind;
  /// The sender, by its rank in the group.
  int32_t rank;
  /// Collectives that it took part in; of a failure, up to the one that the ranks called differently, or 0.
  uint64_t collectives;
  /// Messages of users that it has sent to the receiver.
  uint64_t messages;
  /// Of a failure: the rank that caused it, or -1, and its c10d_status.
  int32_t cause;
  int32_t status;
  char text[472];
};

}  // namespace c10d::mpi_shim
