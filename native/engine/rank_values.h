// What the ranks of a group publish in the store while it is made.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/transport.h"

namespace c10d {

/// E.g. "rank 2", "ranks 0, 2 and 3".
std::string text_of_ranks(const std::vector<int32_t>& ranks);

/// Waits for the value of a request. Returns false if it has not arrived by `until`; it may be awaited again then.
/// Throws Failure for anything but a time-out.
bool await_until(Exchange& exchange, uint64_t request, Clock::time_point until, std::vector<char>& value);

/// Waits for the values of requests, which are indexed by rank; this rank's and those that are 0 are skipped. `take`
/// receives each value in the order of the ranks, before the next one is awaited. `poll`, if given, is called
/// periodically, and may throw to end the wait. Throws Failure naming all ranks whose values have not arrived by the
/// deadline of connecting.
void await_ranks(const Config& config, Exchange& exchange, const std::vector<uint64_t>& requests,
                 const std::function<void(int32_t, std::vector<char>)>& take,
                 const std::function<void()>& poll = nullptr);

}  // namespace c10d
