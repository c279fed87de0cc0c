#include "mesh/barrier_limits.h"

#include <cstdint>
#include <string>

namespace c10d {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kGrace{2'000};

Clock::time_point earlier(Clock::time_point deadline, milliseconds by) {
  return deadline == Clock::time_point::max() ? deadline : deadline - by;
}

std::string list_of(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "Rank " : "Ranks ";
  for (size_t i = 0; i < ranks.size(); i++) text += (i == 0 ? "" : ", ") + std::to_string(ranks[i]);
  return text;
}

}  // namespace

void give_grace(Op& op) {
  if (op.deadline < Clock::time_point::max() - kGrace) op.deadline += kGrace;
}

Clock::time_point own_deadline_of_first(const Op& op) { return earlier(op.deadline, kGrace); }
Clock::time_point own_deadline_of_others(const Op& op) { return op.deadline; }

Failure not_passed(const Op& op, const std::vector<int>& missing) {
  const auto limit = static_cast<int64_t>(op.request.timeout_ms);
  return Failure::of_ranks(
      C10D_ERR_OP_TIMEOUT,
      "[Rank 0]: " + list_of(missing) + " failed to pass monitoredBarrier in " + std::to_string(limit) + " ms",
      missing);
}

Failure no_answer() { return Failure(C10D_ERR_OP_TIMEOUT, "rank 0 did not answer in monitoredBarrier", 0); }

}  // namespace c10d
