#include "monitored_barrier.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "context/messages.h"
#include "mesh/barrier_limits.h"

namespace c10d::gloo_shim {

namespace {

/// A condition variable cannot wait until the largest time point.
Clock::time_point for_gloo(Clock::time_point deadline) {
  return std::min(deadline, Clock::now() + std::chrono::hours(24 * 365));
}

/// One int32 to or from a rank.
class Int32Message {
 public:
  explicit Int32Message(const std::shared_ptr<GlooContext>& context)
      : message_(context->transport(), &value_, sizeof value_) {}
  Message& message() { return message_; }

 private:
  int32_t value_ = 0;
  Message message_;
};

void wait_for_others(const Op& op, const GlooContexts& contexts, uint64_t report_tag, uint64_t answer_tag) {
  const auto deadline = for_gloo(own_deadline_of_first(op));
  std::vector<std::unique_ptr<Int32Message>> messages;
  for (int rank = 1; rank < contexts.size(); rank++) {
    messages.push_back(std::make_unique<Int32Message>(contexts.of(report_tag)));
    messages.back()->message().recv(rank, report_tag, 0, sizeof(int32_t));
  }
  std::vector<int> missing;
  for (int rank = 1; rank < contexts.size(); rank++) {
    if (messages[rank - 1]->message().await_received(deadline)) continue;
    missing.push_back(rank);
    if ((op.request.flags & C10D_FLAG_WAIT_ALL_RANKS) == 0) break;
  }
  if (!missing.empty()) throw not_passed(op, missing);
  for (int rank = 1; rank < contexts.size(); rank++) {
    messages[rank - 1] = std::make_unique<Int32Message>(contexts.of(answer_tag));
    messages[rank - 1]->message().send(rank, answer_tag, 0, sizeof(int32_t));
  }
  for (auto& message : messages) message->message().await_sent(deadline);
}

void report_to_first(const Op& op, const GlooContexts& contexts, uint64_t report_tag, uint64_t answer_tag) {
  const auto deadline = for_gloo(own_deadline_of_others(op));
  Int32Message report(contexts.of(report_tag));
  report.message().send(0, report_tag, 0, sizeof(int32_t));
  report.message().await_sent(deadline);
  Int32Message answer(contexts.of(answer_tag));
  answer.message().recv(0, answer_tag, 0, sizeof(int32_t));
  if (!answer.message().await_received(deadline)) throw no_answer();
}

}  // namespace

void monitored_barrier(const Op& op, const GlooContexts& contexts) {
  const uint64_t report_tag = op.ticket;
  const uint64_t answer_tag = op.ticket + 1;
  if (contexts.rank() == 0) {
    wait_for_others(op, contexts, report_tag, answer_tag);
  } else {
    report_to_first(op, contexts, report_tag, answer_tag);
  }
}

}  // namespace c10d::gloo_shim
