// Checks of an op before any of its data is sent.
#pragma once

#include "engine/transport.h"
#include "library.h"

namespace c10d::nccl_shim {

/// What a group over this library can do.
Capabilities capabilities_of(const Library& library);

/// Throws Failure with C10D_ERR_INVALID or C10D_ERR_UNSUPPORTED if NCCL of this version cannot carry out the op.
void check_op(const Op& op, int version);

}  // namespace c10d::nccl_shim
