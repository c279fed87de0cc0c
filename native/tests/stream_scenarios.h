// Programs over software devices that are right by the order contract of c10d.h alone, without any wait of the host.
// Each gives what went wrong, or nothing.
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
