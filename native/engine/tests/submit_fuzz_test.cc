// Op records with any numbers, submitted to a group.
#include <doctest/doctest.h>

#include <random>

#include "host.h"
#include "tests/random_record.h"

using namespace c10d::test;

TEST_CASE("a group accepts or refuses any op record, and continues") {
  const uint64_t seed = fuzz_seed();
  MESSAGE("C10D_FUZZ_SEED=" << seed);
  std::mt19937_64 random(seed);
  Host host({"model=instant"});
  uint64_t accepted = 0;
  const Stopwatch watch;
  do {
    RandomRecord record(random, 0, 8, true);
    const auto id = c10d_submit(host.group(), &record.op(), 1);
    if (id < 0) {
      CHECK((id == C10D_ERR_INVALID || id == C10D_ERR_UNSUPPORTED));
      CHECK(!last_error().empty());
      continue;
    }
    accepted++;
    CHECK_FALSE(record.has_unknown());
    CHECK(host.wait(id, 10'000) == C10D_OK);
  } while (watch.ms() < 1'000 * fuzz_seconds());
  CHECK(accepted > 0);
  CHECK(host.stats().submitted == accepted);
  const auto id = host.submit({});
  CHECK(host.wait(id) == C10D_OK);
}
