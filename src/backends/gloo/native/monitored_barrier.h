// A barrier that names the ranks that did not arrive.
#pragma once

#include "context/gloo_contexts.h"
#include "ops/op.h"

namespace c10d::gloo_shim {

/// As in PyTorch: all ranks send to rank 0 with the op's first tag, and rank 0 answers them with the second. Throws
/// Failure with C10D_ERR_OP_TIMEOUT on rank 0, naming the first missing rank or all of them.
void monitored_barrier(const Op& op, const GlooContexts& contexts);

}  // namespace c10d::gloo_shim
