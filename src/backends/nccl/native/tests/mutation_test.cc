// Whether the tests find each bug of mutation.h: the named one fails in a process that has the bug.
#include "mutation.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "mutated.h"
#include "own_program.h"

using namespace c10d::test;

namespace {

struct Finder {
  const char* mutation;
  const char* cases;
  /// More than one where it depends on what two threads do at the same time.
  int attempts = 1;
};

constexpr const char* kStreams = "streams and ops keep their order on NCCL";
constexpr const char* kOps = "all ops give what they should*";
constexpr const char* kReductions = "all dtypes and reduce ops";

constexpr Finder kFinders[] = {
    {"config-size", "group: connecting ends by an abort*"},
    {"reused-id", "group: two at the same time*"},
    {"event-before-op", kStreams},
    {"other-stream", kStreams},
    {"default-stream", kStreams},
    {"no-input-wait", kStreams},
    {"late-input-wait", kStreams},
    {"no-scratch-wait", kOps},
    {"no-group-end", "group: a batch of messages*"},
    {"no-end-query", kStreams},
    {"no-ready-wait", kStreams},
    {"no-output-wait", kStreams},
    {"abort-at-once", "group: an abort ends ops*", 50},
    {"next-root", kOps},
    {"sum-for-avg", kReductions},
    {"early-op-destroy", kReductions},
    {"no-self-part", kOps},
    {"no-abort", "group: an op that a peer does not join*"},
    {"destroy-in-progress", "group: two at the same time*"},
    {"no-end-of-failed", "fault: an op whose call fails ends when*"},
    {"min-for-max", "group: each option is the field*"},
    {"plain-priority", "group: its stream has the highest priority*"},
    {"unlent-split", "group: ops of the parent*"},
};

}  // namespace

TEST_CASE("mutation: each is found" * doctest::skip()) {
  CHECK(std::size(kFinders) == std::size(c10d::nccl_shim::Mutation::kNames));
  for (const char* name : c10d::nccl_shim::Mutation::kNames) {
    const auto* finder = std::find_if(std::begin(kFinders), std::end(kFinders),
                                      [&](const Finder& one) { return std::string(one.mutation) == name; });
    REQUIRE(finder != std::end(kFinders));
    std::string end;
    for (int attempt = 0; end.empty() && attempt < finder->attempts; attempt++) {
      end = run_own_program(finder->cases, {std::string(kMutationVariable) + "=" + name}, 40);
    }
    MESSAGE(std::string(name) << " is found by \"" << std::string(finder->cases) << "\": " << end);
    CHECK_MESSAGE(!end.empty(), name);
  }
}
