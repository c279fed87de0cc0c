// The buffers that each op takes.
#pragma once

#include <cstdint>

#include "ops/op.h"

namespace c10d {

/// Checks root, number and sizes of the buffers, and splits, so that no rank sends from, expects or writes to memory
/// outside the buffers. The group calls it before Transport::check(). Throws Failure with C10D_ERR_INVALID.
void check_shape(const Op& op, int rank, int world_size);

/// A sparse all-reduce is two ops: the number of entries of each rank, and then the entries themselves.
bool is_second_half(const Op& op);
/// Total entries of all ranks, after check_shape().
uint64_t entries(const Op& op);

}  // namespace c10d
