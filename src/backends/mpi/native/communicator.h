// The communicator of a group.
#pragma once

#include <mpi.h>

#include <cstddef>

namespace c10d::mpi_shim {

/// Tags that ops of several messages take in turn, so that several can be under way at once.
constexpr int kTurnTags = 4095;

struct Communicator {
  MPI_Comm handle = MPI_COMM_NULL;
  int rank = 0;
  int size = 1;
  /// Elements of one native call at most; larger reductions and broadcasts are several calls.
  size_t max_count = size_t{1} << 30;
  /// Up to so many ranks, each sends to all others at once, which suits a host better than a cluster.
  int most_direct = 16;
  /// Messages of users have tags below this; from here on they are the group's own.
  int first_own_tag = 0;
  /// Of signatures that all ranks send to all.
  int signature_tag = 0;
  /// The first of kTurnTags.
  int first_turn_tag = 0;
  /// Some ranks are other programs, which make the calls of MPI that the ops are named after.
  bool mixed = false;

  int turn_tag(uint64_t turn) const { return first_turn_tag + static_cast<int>(turn % kTurnTags); }
};

}  // namespace c10d::mpi_shim
