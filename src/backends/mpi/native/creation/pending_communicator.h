// A communicator that is being made, which MPI cannot cancel.
#pragma once

#include <mpi.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "creation/turns.h"
#include "ops/failure.h"
#include "ops/op.h"

namespace c10d::mpi_shim {

/// Runs MPI_Comm_create_group on another thread. If the group is given up here, that thread stays in MPI until all
/// members have joined, and then leaves the group again. It ends the turn.
class PendingCommunicator {
 public:
  /// `number`: see CommunicatorSpec::make(). `wanted`: whether take() or give_up() will be called.
  static std::shared_ptr<PendingCommunicator> start(uint64_t turn, std::shared_ptr<const CommunicatorSpec> spec,
                                                    uint64_t number, bool wanted);

  /// Waits for the end, until then at most, or until `given_up()`. Returns whether it has ended.
  bool await(Clock::time_point until, const std::function<bool()>& given_up);
  /// Makes await() call `given_up()` again.
  void wake();
  /// Gives the communicator up. Returns false if it was made meanwhile: then the caller has to take it.
  bool give_up();
  /// The communicator, after the end. Throws Failure.
  MPI_Comm take();

 private:
  PendingCommunicator(uint64_t turn, std::shared_ptr<const CommunicatorSpec> spec, uint64_t number, bool wanted)
      : turn_(turn), spec_(std::move(spec)), number_(number), wanted_(wanted) {}

  void make(bool on_mpi_thread);

  const uint64_t turn_;
  const std::shared_ptr<const CommunicatorSpec> spec_;
  const uint64_t number_;

  /// Never held while MPI is called.
  std::mutex mutex_;
  std::condition_variable changed_;
  bool wanted_;
  bool ended_ = false;
  MPI_Comm communicator_ = MPI_COMM_NULL;
  std::optional<Failure> failure_;
};

}  // namespace c10d::mpi_shim
