#include "software_device/machine.h"

#include <algorithm>
#include <utility>

#include "engine/thread.h"
#include "ops/failure.h"

namespace c10d::softdev {

namespace {

using std::chrono::microseconds;

/// A hash, so that consecutive numbers have unrelated results.
uint64_t mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace

Machine& Machine::the() {
  // Never destroyed: its thread runs until the process ends.
  static auto* const machine = new Machine;
  return *machine;
}

Machine::Machine() {
  spawn_thread("softdev", [this] { run(); }).detach();
}

void Machine::set_seed(uint64_t seed, microseconds longest_delay) {
  const std::lock_guard<std::mutex> lock(mutex_);
  seed_ = seed;
  longest_delay_ = longest_delay;
  random_.seed(seed);
  next_stream_ = 1;
}

uint64_t Machine::seed() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return seed_;
}

// ---- streams ---------------------------------------------------------------------------------------------------

StreamPtr Machine::make_stream(int32_t device) {
  auto stream = std::make_shared<Stream>();
  const std::lock_guard<std::mutex> lock(mutex_);
  stream->number_ = mixed(static_cast<uint64_t>(device)) ^ next_stream_++;
  return stream;
}

uint64_t Machine::open_stream(int32_t device) {
  auto stream = make_stream(device);
  const std::lock_guard<std::mutex> lock(mutex_);
  static uint64_t last_handle = 0x5d000;
  handles_[{device, ++last_handle}] = std::move(stream);
  return last_handle;
}

StreamPtr Machine::find_stream(int32_t device, uint64_t handle) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = handles_.find({device, handle});
    if (found != handles_.end()) return found->second;
  }
  if (handle != 0) return nullptr;
  auto stream = make_stream(device);
  const std::lock_guard<std::mutex> lock(mutex_);
  return handles_.try_emplace({device, 0}, std::move(stream)).first->second;
}

bool Machine::close_stream(int32_t device, uint64_t handle) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return handle != 0 && handles_.erase({device, handle}) > 0;
}

void Machine::enqueue(Stream& stream, std::function<void()> work, EventPtr records, EventPtr waits) {
  const uint64_t dice = mixed(seed_ ^ mixed(stream.number_ ^ mixed(stream.put_++)));
  const auto longest = static_cast<uint64_t>(longest_delay_.count());
  const microseconds delay(dice % 2 == 0 ? 0 : (dice >> 1) % (longest + 1));
  if (stream.items_.empty()) active_.push_back(stream.shared_from_this());
  stream.items_.push_back({std::move(work), std::move(records), std::move(waits), delay, {}});
  changed_.notify_one();
}

void Machine::put(Stream& stream, std::function<void()> work) {
  const std::lock_guard<std::mutex> lock(mutex_);
  enqueue(stream, std::move(work), nullptr, nullptr);
}

EventPtr Machine::record(Stream& stream) {
  auto event = std::make_shared<Event>();
  const std::lock_guard<std::mutex> lock(mutex_);
  enqueue(stream, nullptr, event, nullptr);
  return event;
}

void Machine::wait(Stream& stream, EventPtr event) {
  const std::lock_guard<std::mutex> lock(mutex_);
  enqueue(stream, nullptr, nullptr, std::move(event));
}

void Machine::clear(Stream& stream) {
  // Destroyed without the mutex.
  std::deque<Stream::Item> items;
  std::unique_lock<std::mutex> lock(mutex_);
  items.swap(stream.items_);
  active_.erase(std::remove_if(active_.begin(), active_.end(), [&](const auto& one) { return one.get() == &stream; }),
                active_.end());
  for (const auto& item : items) {
    if (item.records != nullptr) complete_locked(*item.records);
  }
  advanced_.wait(lock, [&] { return running_ != &stream; });
}

// ---- events ----------------------------------------------------------------------------------------------------

void Machine::complete_locked(Event& event) {
  event.complete_ = true;
  advanced_.notify_all();
  changed_.notify_one();
}

void Machine::complete(Event& event) {
  const std::lock_guard<std::mutex> lock(mutex_);
  complete_locked(event);
}

bool Machine::is_complete(const Event& event) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return event.complete_;
}

bool Machine::await(const Event& event, Clock::time_point deadline) {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!event.complete_) {
    if (Clock::now() >= deadline) return false;
    advanced_.wait_until(lock, deadline);
  }
  return true;
}

// ---- the thread ------------------------------------------------------------------------------------------------

/// A random one of the streams whose first item may start; else sets when to check again.
Stream* Machine::next_ready(Clock::time_point now, Clock::time_point& wake_at) {
  std::vector<Stream*> ready;
  for (const auto& stream : active_) {
    auto& item = stream->items_.front();
    if (item.waits != nullptr && !item.waits->complete_) continue;
    if (item.due == Clock::time_point()) item.due = now + item.delay;
    if (item.due <= now) {
      ready.push_back(stream.get());
    } else {
      wake_at = std::min(wake_at, item.due);
    }
  }
  return ready.empty() ? nullptr : ready[random_() % ready.size()];
}

void Machine::run() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    auto wake_at = Clock::time_point::max();
    Stream* const next = next_ready(Clock::now(), wake_at);
    if (next == nullptr) {
      if (wake_at == Clock::time_point::max()) {
        changed_.wait(lock);
      } else {
        changed_.wait_until(lock, wake_at);
      }
      continue;
    }
    const auto stream = next->shared_from_this();
    auto item = std::move(stream->items_.front());
    stream->items_.pop_front();
    if (stream->items_.empty()) active_.erase(std::find(active_.begin(), active_.end(), stream));
    if (item.work) {
      running_ = stream.get();
      lock.unlock();
      const auto fault = attempt(item.work);
      item.work = nullptr;
      lock.lock();
      running_ = nullptr;
      advanced_.notify_all();
      if (fault) {
        faults_++;
        last_fault_ = fault->text();
      }
    }
    if (item.records != nullptr) complete_locked(*item.records);
  }
}

uint64_t Machine::faults() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return faults_;
}

std::string Machine::last_fault() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return last_fault_;
}

}  // namespace c10d::softdev
