#include "version.h"

namespace nccl_emulator {

std::string release_text() { return "2." + std::to_string(release / 100 % 100) + "." + std::to_string(release % 100); }

int dtypes_of_release() { return release < code(24, 0) ? 10 : 12; }

}  // namespace nccl_emulator
