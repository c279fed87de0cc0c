// An op in flight: its requests, and what has to stay until they have ended.
#pragma once

#include <mpi.h>

#include <functional>
#include <memory>
#include <vector>

#include "agreement.h"
#include "communicator.h"
#include "ops/op.h"

namespace c10d::mpi_shim {

struct Call {
  Op* op = nullptr;
  std::vector<MPI_Request> requests;
  /// A receive whose message has not arrived yet.
  bool unmatched = false;
  /// Such a receive whose sender has left.
  bool sender_left = false;
  /// A collective that waits for the signatures of the other ranks; MPI does not have its buffers yet.
  bool agreeing = false;
  Agreement agreement;
  /// Called after the last request: copies results to their buffers.
  std::function<void()> finish;
  /// For ops of several steps: begins the next step when all requests have ended. Returns whether there is none.
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
  /// Prepares it for another op.
  void clear();
};

}  // namespace c10d::mpi_shim
