// What the ranks of a group publish in the store while it is made.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/transport.h"

namespace c10d {

/// E.g. "rank 2", "ranks 0, 2 and 3".
std::string text_of_ranks(const std::vector<int32_t>& ranks);

/// Whether the value of a request has come until then; if not, it may be asked for again. Throws Failure for anything else than a
/// time-out.
bool await_until(Exchange& exchange, uint64_t request, Clock::time_point until, std::vector<char>& value);

/// Takes the values of requests, by rank; the own one and those that are 0 are left out. `take` gets each in the order of the
/// ranks, before the next one is waited for. `look`, if given, is called now and then, and throws to end it. Throws Failure naming
/// all ranks whose values have not come by the deadline of connecting.
void await_ranks(const Config& config, Exchange& exchange, const std::vector<uint64_t>& requests,
                 const std::function<void(int32_t, std::vector<char>)>& take,
                 const std::function<void()>& look = nullptr);

}  // namespace c10d
