#include "engine/rank_values.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace c10d {

namespace {

constexpr std::chrono::milliseconds kLookInterval{50};

}  // namespace

bool await_until(Exchange& exchange, uint64_t request, Clock::time_point until, std::vector<char>& value) {
  try {
    value = exchange.await(request, until);
    return true;
  } catch (const Failure& failure) {
    if (failure.status() != C10D_ERR_OP_TIMEOUT) throw;
  } catch (const std::out_of_range&) {
    // A time-out of the store's own that came just when `until` did: the request is answered.
  }
  return false;
}

std::string text_of_ranks(const std::vector<int32_t>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size(); i++) {
    if (i > 0) text += i + 1 == ranks.size() ? " and " : ", ";
    text += std::to_string(ranks[i]);
  }
  return text;
}

void await_ranks(const Config& config, Exchange& exchange, const std::vector<uint64_t>& requests,
                 const std::function<void(int32_t, std::vector<char>)>& take, const std::function<void()>& look) {
  std::vector<int32_t> missing;
  const auto deadline = config.connect_deadline;
  for (int32_t rank = 0; rank < static_cast<int32_t>(requests.size()); rank++) {
    const uint64_t request = requests[static_cast<size_t>(rank)];
    if (request == 0 || rank == config.rank) continue;
    std::vector<char> value;
    for (;;) {
      const auto now = Clock::now();
      // Without anything to look at, the group ends the wait.
      const auto until = look == nullptr || deadline - now < kLookInterval ? deadline : now + kLookInterval;
      bool came = false;
      try {
        came = await_until(exchange, request, until, value);
      } catch (const Failure& failure) {
        if (failure.status() == C10D_ERR_ABORTED || failure.peer() >= 0) throw;
        // It was the store that failed, not the rank.
        throw failure.about(-1, "waiting for " + text_of_ranks({rank}) + ": ");
      }
      if (came) {
        take(rank, std::move(value));
        break;
      }
      // Before `until` it was the store that gave up.
      if (const auto after = Clock::now(); after >= deadline || after < until) {
        missing.push_back(rank);
        break;
      }
      look();
    }
  }
  if (missing.empty()) return;
  const std::string have = missing.size() == 1 ? " has" : " have";
  throw Failure::of_ranks(C10D_ERR_OP_TIMEOUT, text_of_ranks(missing) + have + " not come to make the group", missing);
}

}  // namespace c10d
