#include "stream.h"

#include <algorithm>
#include <mutex>
#include <thread>
#include <utility>

#include "calls.h"
#include "config.h"
#include "engine/thread.h"
#include "random.h"
#include "world.h"

namespace cuemu {

void complete(Point& point) {
  point.complete = true;
  point.time = Clock::now();
  for (auto* const waiting : point.waiting) waiting->notify_all();
  World::the().notify();
}

Points Stream::pending() const {
  Points points;
  const auto add = [&](const Stream& stream) {
    if (stream.last_ != nullptr && !stream.last_->complete) points.push_back(stream.last_);
  };
  add(*this);
  if (kind == Kind::legacy) {
    for (const auto& other : device.streams()) {
      if (other->kind == Kind::blocking) add(*other);
    }
  } else if (kind == Kind::blocking && device.legacy() != nullptr) {
    add(*device.legacy());
  }
  return points;
}

void Stream::put(Item item) {
  if (!has_thread_) {
    c10d::spawn_thread("cuemu-stream", [self = shared_from_this()] { self->run(); }).detach();
    has_thread_ = true;
  }
  for (auto& point : pending()) {
    if (point != last_) item.waits.push_back(std::move(point));
  }
  for (const auto& block : item.uses) {
    block->users++;
    block->last_user = item.what;
  }
  last_ = item.done;
  items_.push_back(std::move(item));
  wake();
}

void Stream::close() {
  closed_ = true;
  if (has_thread_) {
    wake();
  } else {
    device.forget(*this);
  }
}

void Stream::run() {
  forbid_calls_here();
  Lock lock(World::the().mutex);
  while (true) {
    wake_.wait(lock, [&] { return closed_ || !items_.empty(); });
    if (items_.empty()) break;
    Item item = std::move(items_.front());
    items_.pop_front();
    run_item(lock, item);
  }
  device.forget(*this);
}

void Stream::run_item(Lock& lock, Item& item) {
  for (const auto& point : item.waits) {
    if (point->complete) continue;
    auto& waiting = point->waiting;
    waiting.push_back(&wake_);
    wake_.wait(lock, [&] { return point->complete || device.error.load() != CUDA_SUCCESS; });
    waiting.erase(std::remove(waiting.begin(), waiting.end(), &wake_), waiting.end());
  }
  if (item.work) {
    const auto delay = delay_of(mix(config().seed ^ mix(number_ << 32 | put_count_++)));
    lock.unlock();
    if (delay.count() > 0) std::this_thread::sleep_for(delay);
    const CUresult result = device.error.load() == CUDA_SUCCESS ? item.work() : CUDA_SUCCESS;
    item.work = nullptr;  // what it has is freed before anyone is notified
    lock.lock();
    if (result != CUDA_SUCCESS) device.fail(result);
  }
  for (const auto& block : item.uses) block->users--;
  complete(*item.done);
}

}  // namespace cuemu
