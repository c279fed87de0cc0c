// The collectives on libgloo, with the algorithms, tags and decomposition of PyTorch's group.
#pragma once

#include "context/gloo_contexts.h"
#include "ops/op.h"

namespace c10d::gloo_shim {

/// Carries out a collective whose first tag is `op.ticket`. Throws what Gloo throws.
void run_collective(const Op& op, const GlooContexts& contexts);

}  // namespace c10d::gloo_shim
