#include "engine/rank_values.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace c10d {

namespace {

constexpr std::chrono::milliseconds kPollInterval{50};

}  // namespace

bool await_until(Exchange& exchange, uint64_t request, Clock::time_point until, std::vector<char>& value) {
  try {
    value = exchange.await(request, until);
    return true;
  } catch (const Failure& failure) {
    if (failure.status() != C10D_ERR_OP_TIMEOUT) throw;
  } catch (const std::out_of_range&) {
    // The store itself timed out just at `until`: the request was answered with that.
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
                 const std::function<void(int32_t, std::vector<char>)>& take, const std::function<void()>& poll) {
  std::vector<int32_t> missing;
  const auto deadline = config.connect_deadline;
  for (int32_t rank = 0; rank < static_cast<int32_t>(requests.size()); rank++) {
    const uint64_t request = requests[static_cast<size_t>(rank)];
    if (request == 0 || rank == config.rank) continue;
    std::vector<char> value;
    for (;;) {
      const auto now = Clock::now();
      // Without `poll`, the group ends the wait.
      const auto until = poll == nullptr || deadline - now < kPollInterval ? deadline : now + kPollInterval;
      bool arrived = false;
      try {
        arrived = await_until(exchange, request, until, value);
      } catch (const Failure& failure) {
        if (failure.status() == C10D_ERR_ABORTED || failure.peer() >= 0) throw;
        // The store failed, not the rank.
        throw failure.about(-1, "waiting for " + text_of_ranks({rank}) + ": ");
      }
      if (arrived) {
        take(rank, std::move(value));
        break;
      }
      // Before `until`, it was the store that timed out.
      if (const auto after = Clock::now(); after >= deadline || after < until) {
        missing.push_back(rank);
        break;
      }
      poll();
    }
  }
  if (missing.empty()) return;
  throw Failure::of_ranks(C10D_ERR_OP_TIMEOUT, text_of_ranks(missing) + " did not join the group", missing);
}

}  // namespace c10d
