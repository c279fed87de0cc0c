// Whether the tests find each bug of mutation.h.
#include "mutation.h"

#include <doctest/doctest.h>

#include <string>

#include "mutated.h"
#include "own_program.h"

using namespace c10d::test;

TEST_CASE("mutation: each is found") {
  for (const char* name : c10d::nccl_shim::Mutation::kNames) {
    const std::string variable = std::string(kMutationVariable) + "=" + name;
    std::string found_by;
    for (const char* cases : {"streams*", "all*", "group*"}) {
      const std::string end = run_own_program(cases, {variable}, 60);
      if (!end.empty()) found_by += std::string(cases) + " (" + end + ") ";
    }
    MESSAGE(std::string(name) << " is found by " << found_by);
    CHECK_MESSAGE(!found_by.empty(), name);
  }
}
