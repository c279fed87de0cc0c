#include "engine/op_table.h"

#include <utility>

namespace c10d {

namespace {
constexpr size_t kMaxSpare = 256;
/// Bytes that a spare op keeps for copies of the next op's buffers.
constexpr size_t kMaxSpareCopies = 1 << 20;
}  // namespace

std::unique_ptr<Op> OpTable::make() {
  if (spare_.empty()) return std::make_unique<Op>();
  auto op = std::move(spare_.back());
  spare_.pop_back();
  return op;
}

Op& OpTable::insert(std::unique_ptr<Op> op) {
  if (next_ - first_ == slots_.size()) grow();
  op->id = next_++;
  auto& slot = slots_[op->id & (slots_.size() - 1)];
  slot = std::move(op);
  return *slot;
}

Op* OpTable::find(uint64_t id) const {
  if (id < first_ || id >= next_) return nullptr;
  return slots_[id & (slots_.size() - 1)].get();
}

void OpTable::remove(uint64_t id) {
  if (find(id) == nullptr) return;
  auto& slot = slots_[id & (slots_.size() - 1)];
  if (slot->copies_capacity > kMaxSpareCopies) {
    slot->copies.reset();
    slot->copies_capacity = 0;
  }
  if (spare_.size() < kMaxSpare) spare_.push_back(std::move(slot));
  slot.reset();
  while (first_ < next_ && find(first_) == nullptr) first_++;
}

void OpTable::grow() {
  std::vector<std::unique_ptr<Op>> wider(slots_.size() * 2);
  for (uint64_t id = first_; id < next_; id++) {
    wider[id & (wider.size() - 1)] = std::move(slots_[id & (slots_.size() - 1)]);
  }
  slots_ = std::move(wider);
}

}  // namespace c10d
