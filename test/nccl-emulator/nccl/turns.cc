#include "turns.h"

#include <chrono>

namespace nccl_emulator {
namespace {

// How often a wait looks whether it is to stop.
constexpr std::chrono::milliseconds pause(5);

}  // namespace

uint64_t Turns::take() {
  std::lock_guard lock(mutex_);
  open_.insert(next_);
  return next_++;
}

void Turns::end(uint64_t turn) {
  std::lock_guard lock(mutex_);
  open_.erase(turn);
  changed_.notify_all();
}

bool Turns::idle() {
  std::lock_guard lock(mutex_);
  return open_.empty();
}

void Turns::wait_for(uint64_t turn, const Stop& stop) {
  std::unique_lock lock(mutex_);
  while (*open_.begin() != turn && !stop()) changed_.wait_for(lock, pause);
}

void Turns::wait_idle(const Stop& stop) {
  std::unique_lock lock(mutex_);
  while (!open_.empty() && !stop()) changed_.wait_for(lock, pause);
}

void Turns::enter() {
  std::lock_guard lock(mutex_);
  inside_++;
}

void Turns::leave() {
  std::lock_guard lock(mutex_);
  inside_--;
  changed_.notify_all();
}

void Turns::wait_left() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return inside_ == 0; });
}

}  // namespace nccl_emulator
