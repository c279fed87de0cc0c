// Programs over devices that are correct by the ordering that c10d.h promises, without any wait by the host.
// Each returns what went wrong, or an empty text.
#pragma once

#include <string>
#include <vector>

namespace c10d::test {

struct StreamScenario {
  const char* name;
  std::string (*run)(const std::vector<std::string>& settings);
};

/// All of them. Delays of the device are set by the caller.
const std::vector<StreamScenario>& stream_scenarios();

}  // namespace c10d::test
