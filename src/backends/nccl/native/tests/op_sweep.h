// Collectives with all that matters about them, run on ranks and compared with what they should give.
#pragma once

#include <string>
#include <vector>

#include "device_ranks.h"

namespace c10d::test {

struct SweepCase {
  uint32_t opcode;
  uint32_t dtype = C10D_FLOAT32;
  uint32_t reduce_op = C10D_SUM;
  int32_t root = 0;
  /// Elements of a buffer, or of what each rank gets.
  size_t count = 5;
  enum class Layout {
    /// Each buffer in memory of its own.
    separate,
    /// The buffers of a list follow each other.
    one_piece,
    /// Parts have different sizes.
    uneven,
    /// Ops that work in place have inputs too.
    out_of_place,
  };
  Layout layout = Layout::separate;
};

/// Runs it on all ranks at the same time, each in a stream of its own. Returns what went wrong, or an empty text.
std::string run_case(DeviceRanks& ranks, const SweepCase& one);

std::string text_of(const SweepCase& one, int32_t world_size);

/// Every op, with roots, layouts and size 0.
std::vector<SweepCase> all_ops(int32_t world_size);
/// Every dtype and reduce op that NCCL takes.
std::vector<SweepCase> all_reductions();

}  // namespace c10d::test
