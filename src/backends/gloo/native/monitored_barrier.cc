#include "monitored_barrier.h"

#include <algorithm>
#include <string>
#include <vector>

#include "messages.h"

namespace c10d::gloo_shim {

namespace {

using std::chrono::milliseconds;

/// What rank 0 is given beyond its time to name the ranks, which the engine could not.
constexpr milliseconds kGrace{2'000};

Clock::time_point own_deadline(const Op& op, milliseconds grace) {
  if (op.deadline == Clock::time_point::max()) return Clock::now() + std::chrono::hours(24 * 365);
  return op.deadline - grace;
}

std::string list_of(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "Rank " : "Ranks ";
  for (size_t i = 0; i < ranks.size(); i++) text += (i == 0 ? "" : ", ") + std::to_string(ranks[i]);
  return text;
}

/// One int32 to or from a rank.
class Note {
 public:
  explicit Note(const std::shared_ptr<Mesh>& mesh) : message_(mesh->transport(), &value_, sizeof value_) {}
  Message& message() { return message_; }

 private:
  int32_t value_ = 0;
  Message message_;
};

void wait_for_others(const Op& op, const Meshes& meshes, uint64_t there, uint64_t back) {
  const auto deadline = own_deadline(op, kGrace);
  std::vector<std::unique_ptr<Note>> notes;
  for (int rank = 1; rank < meshes.size(); rank++) {
    notes.push_back(std::make_unique<Note>(meshes.of(there)));
    notes.back()->message().recv(rank, there, 0, sizeof(int32_t));
  }
  std::vector<int> missing;
  for (int rank = 1; rank < meshes.size(); rank++) {
    if (notes[rank - 1]->message().await_received(deadline)) continue;
    missing.push_back(rank);
    if ((op.request.flags & C10D_FLAG_WAIT_ALL_RANKS) == 0) break;
  }
  if (!missing.empty()) {
    const auto limit = static_cast<int64_t>(op.request.timeout_ms);
    throw Failure(
        C10D_ERR_OP_TIMEOUT,
        "[Rank 0]: " + list_of(missing) + " failed to pass monitoredBarrier in " + std::to_string(limit) + " ms",
        missing.front());
  }
  for (int rank = 1; rank < meshes.size(); rank++) {
    notes[rank - 1] = std::make_unique<Note>(meshes.of(back));
    notes[rank - 1]->message().send(rank, back, 0, sizeof(int32_t));
  }
  for (auto& note : notes) note->message().await_sent(deadline);
}

void report_to_first(const Op& op, const Meshes& meshes, uint64_t there, uint64_t back) {
  const auto deadline = own_deadline(op, milliseconds(0));
  Note report(meshes.of(there));
  report.message().send(0, there, 0, sizeof(int32_t));
  report.message().await_sent(deadline);
  Note answer(meshes.of(back));
  answer.message().recv(0, back, 0, sizeof(int32_t));
  if (!answer.message().await_received(deadline)) {
    throw Failure(C10D_ERR_OP_TIMEOUT, "rank 0 did not answer in monitoredBarrier", 0);
  }
}

}  // namespace

void give_grace(Op& op) {
  if (op.deadline < Clock::time_point::max() - kGrace) op.deadline += kGrace;
}

void monitored_barrier(const Op& op, const Meshes& meshes) {
  const uint64_t there = op.ticket;
  const uint64_t back = op.ticket + 1;
  if (meshes.rank() == 0) {
    wait_for_others(op, meshes, there, back);
  } else {
    report_to_first(op, meshes, there, back);
  }
}

}  // namespace c10d::gloo_shim
