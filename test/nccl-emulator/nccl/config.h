// ncclConfig_t as this release reads it.
#pragma once

#include "nccl_api.h"

namespace nccl_emulator {

/// The configuration without any wish of the user.
ncclConfig_t default_config();

/// Reads what the user gives, with all checks of NCCL. Fields that this release lacks are ignored.
ncclResult_t read_config(const ncclConfig_t* given, ncclConfig_t* config);

/// See ncclemu_last_config.
int last_config(const char* field);

}  // namespace nccl_emulator
