// The ops of one call, or of one group, on one communicator.
#pragma once

#include <memory>
#include <vector>

#include "communicator.h"
#include "op.h"

namespace nccl_emulator {

/// Puts them into their streams. They run together, as soon as all of these streams have come so far; none of the
/// streams goes on before all ops have ended.
ncclResult_t launch(const std::shared_ptr<Communicator>& communicator, const std::vector<Op>& ops);

}  // namespace nccl_emulator
