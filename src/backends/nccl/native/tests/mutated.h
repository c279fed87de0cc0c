// The bug that the tests of this process run with, if any.
#pragma once

#include <cstdlib>
#include <string>
#include <vector>

namespace c10d::test {

constexpr const char* kMutationVariable = "C10D_TEST_MUTATION";

/// Settings of a group: these, and the mutation.
inline std::vector<std::string> mutated(std::vector<std::string> settings = {}) {
  if (const char* name = std::getenv(kMutationVariable)) settings.push_back(std::string("mutate=") + name);
  return settings;
}

}  // namespace c10d::test
