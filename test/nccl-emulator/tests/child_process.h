// One test case in a process of its own, for what changes or ends a process.
#pragma once

#include <string>
#include <vector>

namespace cuemu::test {

/// Runs the test case of this program with variables such as "NAME=value". Returns its exit status, 128 + signal, or -1
/// when it had to be killed after a minute.
int run_case(const std::string& name, const std::vector<std::string>& variables = {});

}  // namespace cuemu::test
