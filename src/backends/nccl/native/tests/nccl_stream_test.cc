// The order of ops and streams on the NCCL emulator.
#include <doctest/doctest.h>

#include "device_ranks.h"
#include "emulator_faults.h"
#include "mutated.h"
#include "stream_scenarios.h"

using namespace c10d::test;

TEST_CASE("streams and ops keep their order on NCCL") {
  const NoFaults faults;
  for (const char* setting : {"blocking=0", "blocking=1", "high-priority=1"}) {
    CAPTURE(std::string(setting));
    for (const auto& scenario : stream_scenarios()) {
      CAPTURE(std::string(scenario.name));
      CHECK(scenario.run(mutated({setting})) == "");
    }
  }
}
