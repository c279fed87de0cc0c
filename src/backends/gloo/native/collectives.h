// Gloo's collectives, one function per op of the shim ABI: same algorithms, tags and decomposition as PyTorch's group.
#pragma once

#include "meshes.h"
#include "ops/op.h"

namespace c10d::gloo_shim {

/// Carries out a collective whose first tag is `op.ticket`. Throws what Gloo throws.
void run_collective(const Op& op, const Meshes& meshes);

}  // namespace c10d::gloo_shim
