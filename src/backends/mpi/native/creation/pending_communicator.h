// The making of a communicator, which MPI cannot give up.
#pragma once

#include <mpi.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "creation/turns.h"
#include "engine/failure.h"
#include "engine/op.h"

namespace c10d::mpi_shim {

/// MPI_Comm_create_group on a thread that stays there when the group is given up here, until all members have come. Then it leaves
/// the group again. It ends the turn.
class Making {
 public:
  /// `number`: see Formation::make(). `wanted`: whether there will be a take(), or give_up().
  static std::shared_ptr<Making> start(uint64_t turn, std::shared_ptr<const Formation> formation, uint64_t number,
                                       bool wanted);

  /// Waits for the end until then, or until `given_up`. Returns whether it has ended.
  bool await(Clock::time_point until, const std::function<bool()>& given_up);
  /// Has await() ask again.
  void wake();
  /// Whether the communicator is not the caller's any more; else it has been made meanwhile, and is to be taken.
  bool give_up();
  /// When it has ended. Throws Failure.
  MPI_Comm take();

 private:
  Making(uint64_t turn, std::shared_ptr<const Formation> formation, uint64_t number, bool wanted)
      : turn_(turn), formation_(std::move(formation)), number_(number), wanted_(wanted) {}

  void make(bool on_own_thread_of_mpi);

  const uint64_t turn_;
  const std::shared_ptr<const Formation> formation_;
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
