// An op under way: its requests, and what has to stay until they have ended.
#pragma once

#include <mpi.h>

#include <functional>
#include <memory>
#include <vector>

#include "engine/op.h"

namespace c10d::mpi_shim {

/// The communicator of a group.
struct Communicator {
  MPI_Comm handle = MPI_COMM_NULL;
  int rank = 0;
  int size = 1;
  /// Elements of one native call at most; larger reductions and broadcasts are several calls.
  size_t max_count = size_t{1} << 30;
  /// Messages of users have tags below this; from here on they are the group's own.
  int first_own_tag = 0;
  int first_all_reduce_tag = 0;
  /// Some ranks are other programs, which make the calls of MPI that the ops are named after.
  bool mixed = false;
};

struct Call {
  Op* op = nullptr;
  std::vector<MPI_Request> requests;
  /// MPI was asked to cancel it.
  bool called_back = false;
  /// After the last request: moves results to where they belong.
  std::function<void()> finish;
  /// For ops of several steps: begins the next one when all requests have ended. Returns whether there is none.
  std::function<bool()> next_step;
  /// Buffers, counts and displacements that MPI reads while the op goes on.
  std::vector<std::unique_ptr<uint8_t[]>> buffers;
  std::vector<std::unique_ptr<std::vector<int>>> numbers;

  MPI_Request* add_request() {
    requests.push_back(MPI_REQUEST_NULL);
    return &requests.back();
  }
  uint8_t* add_buffer(size_t bytes);
  int* add_numbers(size_t count);
  /// To be used again for another op.
  void clear();
};

}  // namespace c10d::mpi_shim
