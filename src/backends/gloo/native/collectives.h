// Gloo's collectives, one function per op of the shim ABI: same algorithms, tags and decomposition as PyTorch's group.
#pragma once

#include <memory>
#include <vector>

#include "engine/op.h"
#include "meshes.h"
#include "reduction/reduction.h"

namespace c10d::gloo_shim {

/// Throws Failure with C10D_ERR_INVALID or C10D_ERR_UNSUPPORTED if the op cannot be a collective of this group.
void check_collective(const Op& op, int rank, int world_size);

/// Tags that the op takes: one, but for a reduce-scatter of a list, which is an all-reduce per entry, and a monitored
/// barrier, which has a way there and a way back.
uint32_t tags_of(const Op& op);

/// Carries out a collective whose first tag is `op.ticket`. Throws what Gloo throws.
void run_collective(const Op& op, const Meshes& meshes);

}  // namespace c10d::gloo_shim
