// Runs test cases of this program in a process of its own, with other environment variables.
#pragma once

#include <string>
#include <vector>

namespace c10d::test {

/// How it ended, in words; empty if all has passed. `cases` is a filter of doctest's, also for what is skipped. It is ended after `seconds`.
std::string run_own_program(const std::string& cases, const std::vector<std::string>& variables, int seconds);

}  // namespace c10d::test
