// The communicator of a group.
#pragma once

#include <mpi.h>

#include <cstddef>

namespace c10d::mpi_shim {

/// Tags that ops of several messages use in rotation, so that several can be in flight at once.
constexpr int kTurnTags = 4095;

struct Communicator {
  MPI_Comm handle = MPI_COMM_NULL;
  int rank = 0;
  int size = 1;
  /// The most elements of one native call; larger reductions and broadcasts are several calls.
  size_t max_count = size_t{1} << 30;
  /// In a group of up to this many ranks, each sends to all others at once, which suits a host better than a cluster.
  int max_direct_ranks = 16;
  /// Messages of users have tags below this one; the others are the group's own.
  int first_own_tag = 0;
  /// The tag of signatures that all ranks send to all.
  int signature_tag = 0;
  /// The first of kTurnTags.
  int first_turn_tag = 0;
  /// Some ranks are other programs, which call the MPI functions that the ops are named after.
  bool mixed = false;

  int turn_tag(uint64_t turn) const { return first_turn_tag + static_cast<int>(turn % kTurnTags); }
};

}  // namespace c10d::mpi_shim
