// A barrier that can tell which ranks did not come.
#pragma once

#include "engine/op.h"
#include "gloo_contexts.h"

namespace c10d::gloo_shim {

/// As PyTorch does it: all ranks write to rank 0 on the op's first tag, and rank 0 answers them on the second.
/// Throws Failure with C10D_ERR_OP_TIMEOUT on rank 0, naming the first rank that is missing, or all of them.
void monitored_barrier(const Op& op, const GlooContexts& contexts);

}  // namespace c10d::gloo_shim
