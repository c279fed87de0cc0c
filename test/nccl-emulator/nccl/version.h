// Which release the library says it is. Its number is of the file that CMake writes for each of them.
#pragma once

#include <string>

namespace nccl_emulator {

/// As ncclGetVersion gives it: 23007 is 2.30.7.
extern const int release;

constexpr int code(int minor, int patch) { return 20000 + minor * 100 + patch; }

/// "2.30.7".
std::string release_text();

/// How many dtypes this release has.
int dtypes_of_release();

}  // namespace nccl_emulator
