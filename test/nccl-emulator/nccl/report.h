// Texts of errors, and faults of the program under test.
#pragma once

#include "nccl_api.h"

namespace nccl_emulator {

/// Sets the text of ncclGetLastError and returns `result`.
[[gnu::format(printf, 2, 3)]] ncclResult_t refuse(ncclResult_t result, const char* format, ...);

/// The same for what a correct program never does: it is recorded as a fault of the program.
[[gnu::format(printf, 2, 3)]] ncclResult_t misuse(ncclResult_t result, const char* format, ...);

/// Valid until this thread asks again.
const char* last_error();

}  // namespace nccl_emulator
