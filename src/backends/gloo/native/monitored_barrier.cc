#include "monitored_barrier.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "mesh/barrier_limits.h"
#include "messages.h"

namespace c10d::gloo_shim {

namespace {

/// A condition variable does not take the end of time.
Clock::time_point for_gloo(Clock::time_point deadline) {
  return std::min(deadline, Clock::now() + std::chrono::hours(24 * 365));
}

/// One int32 to or from a rank.
class Note {
 public:
  explicit Note(const std::shared_ptr<GlooContext>& context) : message_(context->transport(), &value_, sizeof value_) {}
  Message& message() { return message_; }

 private:
  int32_t value_ = 0;
  Message message_;
};

void wait_for_others(const Op& op, const GlooContexts& contexts, uint64_t there, uint64_t back) {
  const auto deadline = for_gloo(own_deadline_of_first(op));
  std::vector<std::unique_ptr<Note>> notes;
  for (int rank = 1; rank < contexts.size(); rank++) {
    notes.push_back(std::make_unique<Note>(contexts.of(there)));
    notes.back()->message().recv(rank, there, 0, sizeof(int32_t));
  }
  std::vector<int> missing;
  for (int rank = 1; rank < contexts.size(); rank++) {
    if (notes[rank - 1]->message().await_received(deadline)) continue;
    missing.push_back(rank);
    if ((op.request.flags & C10D_FLAG_WAIT_ALL_RANKS) == 0) break;
  }
  if (!missing.empty()) throw not_passed(op, missing);
  for (int rank = 1; rank < contexts.size(); rank++) {
    notes[rank - 1] = std::make_unique<Note>(contexts.of(back));
    notes[rank - 1]->message().send(rank, back, 0, sizeof(int32_t));
  }
  for (auto& note : notes) note->message().await_sent(deadline);
}

void report_to_first(const Op& op, const GlooContexts& contexts, uint64_t there, uint64_t back) {
  const auto deadline = for_gloo(own_deadline_of_others(op));
  Note report(contexts.of(there));
  report.message().send(0, there, 0, sizeof(int32_t));
  report.message().await_sent(deadline);
  Note answer(contexts.of(back));
  answer.message().recv(0, back, 0, sizeof(int32_t));
  if (!answer.message().await_received(deadline)) throw no_answer();
}

}  // namespace

void monitored_barrier(const Op& op, const GlooContexts& contexts) {
  const uint64_t there = op.ticket;
  const uint64_t back = op.ticket + 1;
  if (contexts.rank() == 0) {
    wait_for_others(op, contexts, there, back);
  } else {
    report_to_first(op, contexts, there, back);
  }
}

}  // namespace c10d::gloo_shim
