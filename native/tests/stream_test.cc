// The order of ops and streams on the software device, and whether the scenarios find a wait that is missing.
#include <doctest/doctest.h>

#include "device_ranks.h"
#include "random_record.h"
#include "software_device/softdev.h"
#include "stream_scenarios.h"

using namespace c10d::test;

namespace {

/// C10D_FUZZ_SEED, or a random one.
void set_delays(uint32_t longest_us) {
  const uint64_t seed = fuzz_seed();
  MESSAGE("C10D_FUZZ_SEED=" << seed);
  softdev_set_seed(seed, longest_us);
}

}  // namespace

TEST_CASE("streams and ops keep their order") {
  for (const uint32_t longest_us : {0U, 300U, 2'000U}) {
    set_delays(longest_us);
    for (const auto& scenario : stream_scenarios()) {
      for (const char* setting : {"descriptor=1", "descriptor=0"}) {
        CAPTURE(std::string(scenario.name));
        CAPTURE(longest_us);
        CHECK(scenario.run({setting}) == "");
      }
    }
  }
  CHECK(softdev_faults() == 0);
}

TEST_CASE("each missing wait is found, by the scenario that is about it") {
  struct Mutation {
    const char* name;
    const char* found_by;
  };
  constexpr Mutation kMutations[] = {
      {"no-input-wait", "an op sees what was put into its stream before"},
      {"late-input-wait", "an op does not wait for what is put into its stream later"},
      {"default-stream", "an op sees what was put into its stream before"},
      {"no-output-wait", "a stream that synchronizes sees the result"},
      {"other-output-stream", "a stream that synchronizes sees the result"},
      {"short-output-wait", "a stream that synchronizes sees the result"},
      {"no-end-wait", "an op ends for the host when it has ended on the device"},
      {"no-order", "ops of a group are in order"},
  };
  set_delays(1'000);
  for (const auto& mutation : kMutations) {
    CAPTURE(std::string(mutation.name));
    bool found = false;
    for (const auto& scenario : stream_scenarios()) {
      const bool is_about_it = scenario.name == std::string(mutation.found_by);
      if (is_about_it) found = !scenario.run({std::string("mutate=") + mutation.name}).empty();
    }
    CHECK(found);
  }
}
