// What NCCL_EMULATOR_FAULTS asks for; README.md has the list.
#pragma once

#include <cstdint>
#include <string>

namespace nccl_emulator {

struct InjectedFaults {
  static constexpr uint64_t never = UINT64_MAX;

  int rank = -1;                 ///< Only this rank of each communicator has the faults; -1: all.
  uint64_t async_error = never;  ///< After so many ops ncclCommGetAsyncError gives ncclSystemError.
  uint64_t hang = never;         ///< This op of a communicator, from 0, never ends.
  uint64_t internal = never;     ///< The call of this op, from 0, gives ncclInternalError.
  bool init_error = false;       ///< Making a communicator gives ncclSystemError.
  uint32_t slow_init_ms = 0;
  bool report_mismatch = false;  ///< Ranks that call different ops get an error, instead of a hang.
  bool tell_of_abort = false;    ///< Peers of a rank that aborts get ncclRemoteError.
  bool refuse_memory = false;    ///< No memory can be registered, or be in a window: ncclInvalidArgument.
  bool eager = false;            ///< A sender's part of a small op may end before the receiver has come.
  std::string unknown;           ///< What could not be read.

  static InjectedFaults parse(const std::string& text);
  /// Those of the environment, read once.
  static const InjectedFaults& of_process();

  bool concern(int of_rank) const { return rank < 0 || rank == of_rank; }
};

}  // namespace nccl_emulator
