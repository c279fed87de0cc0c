// The buffers that each op takes.
#pragma once

#include <cstdint>

#include "ops/op.h"

namespace c10d {

/// What must hold for root, number and sizes of the buffers, and splits, so that no rank sends from, expects or writes to
/// memory outside them. The group calls it before Transport::check(). Throws Failure with C10D_ERR_INVALID.
void check_shape(const Op& op, int rank, int world_size);

/// A sparse all-reduce comes in two ops: what each rank has, and then the entries themselves.
bool is_second_half(const Op& op);
/// Entries of all ranks together, after check_shape().
uint64_t entries(const Op& op);

}  // namespace c10d
