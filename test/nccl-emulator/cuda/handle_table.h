// Handles that are plain numbers, so that a destroyed or invented one is recognized and never followed.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <new>
#include <utility>
#include <vector>

namespace cuemu {

/// A handle has a kind, a generation and a place, and fits into a double. The mutex of the world guards all but has().
template <class T, uint64_t kind>
class HandleTable {
 public:
  uint64_t add(std::shared_ptr<T> object) {
    if (free_.empty()) grow();
    const uint64_t place = free_.front();
    free_.pop_front();
    Slot& slot = slot_of(place);
    slot.object = std::move(object);
    slot.generation = (slot.generation + 1) & mask;
    const uint64_t handle = kind << 2 * bits | slot.generation << bits | place;
    slot.handle.store(handle, std::memory_order_release);
    count_++;
    return handle;
  }

  /// Without a lock.
  bool has(uint64_t handle) const {
    if (handle >> 2 * bits != kind) return false;
    const Chunk* chunk = index_[(handle & mask) / chunk_size].load(std::memory_order_acquire);
    return chunk != nullptr && (*chunk)[handle % chunk_size].handle.load(std::memory_order_acquire) == handle;
  }

  std::shared_ptr<T> find(uint64_t handle) { return has(handle) ? slot_of(handle & mask).object : nullptr; }

  std::shared_ptr<T> remove(uint64_t handle) {
    if (!has(handle)) return nullptr;
    Slot& slot = slot_of(handle & mask);
    slot.handle.store(0, std::memory_order_release);
    free_.push_back(handle & mask);
    count_--;
    return std::exchange(slot.object, nullptr);
  }

  template <class Predicate>
  void remove_if(Predicate predicate) {
    for (const auto& chunk : chunks_) {
      for (Slot& slot : *chunk) {
        if (slot.object != nullptr && predicate(*slot.object)) remove(slot.handle.load(std::memory_order_relaxed));
      }
    }
  }

  uint64_t count() const { return count_; }

 private:
  static constexpr uint64_t bits = 20;
  static constexpr uint64_t mask = (1 << bits) - 1;
  static constexpr uint64_t chunk_size = 1024;
  struct Slot {
    std::atomic<uint64_t> handle{0};
    uint64_t generation = 0;
    std::shared_ptr<T> object;
  };
  using Chunk = std::array<Slot, chunk_size>;

  Slot& slot_of(uint64_t place) { return (*chunks_[place / chunk_size])[place % chunk_size]; }
  void grow() {
    if (chunks_.size() == index_.size()) throw std::bad_alloc();
    const uint64_t first = chunks_.size() * chunk_size;
    chunks_.push_back(std::make_unique<Chunk>());
    index_[chunks_.size() - 1].store(chunks_.back().get(), std::memory_order_release);
    for (uint64_t place = first; place < first + chunk_size; place++) free_.push_back(place);
  }

  std::array<std::atomic<const Chunk*>, (1 << bits) / chunk_size> index_{};
  std::vector<std::unique_ptr<Chunk>> chunks_;
  std::deque<uint64_t> free_;
  uint64_t count_ = 0;
};

}  // namespace cuemu
