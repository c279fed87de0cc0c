// The streams of all software devices, and the one thread that runs their work: late, with delays drawn from a seed.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

namespace c10d::softdev {

using Clock = std::chrono::steady_clock;

/// A point in a stream. It is complete when everything before it is done. The mutex of the machine guards it.
class Event {
 private:
  friend class Machine;
  bool complete_ = false;
};
using EventPtr = std::shared_ptr<Event>;

class Stream;
using StreamPtr = std::shared_ptr<Stream>;

/// One thread does all work. So an op that reads what another stream writes, without waiting for it, sees old data, but
/// is not a data race.
class Machine {
 public:
  static Machine& the();

  /// From now on, delays are drawn with this seed: none, or up to the longest, before each piece of work.
  void set_seed(uint64_t seed, std::chrono::microseconds longest_delay);
  uint64_t seed() const;

  StreamPtr make_stream(int32_t device);
  /// Streams by handle: 0 is the default stream of each device.
  uint64_t open_stream(int32_t device);
  StreamPtr find_stream(int32_t device, uint64_t handle);
  bool close_stream(int32_t device, uint64_t handle);

  void put(Stream& stream, std::function<void()> work);
  EventPtr record(Stream& stream);
  /// What is put into the stream from now on waits for the event.
  void wait(Stream& stream, EventPtr event);
  /// Completes an event that is in no stream.
  void complete(Event& event);
  bool is_complete(const Event& event) const;
  /// Blocks the caller; false when the deadline has passed.
  bool await(const Event& event, Clock::time_point deadline);
  /// Drops what is in the stream and completes its events; returns when no work of it is running.
  void clear(Stream& stream);

  /// Work that threw: how often, and the last message.
  uint64_t faults() const;
  std::string last_fault() const;

 private:
  Machine();
  void run();
  Stream* next_ready(Clock::time_point now, Clock::time_point& wake_at);
  void enqueue(Stream& stream, std::function<void()> work, EventPtr records, EventPtr waits);
  void complete_locked(Event& event);

  mutable std::mutex mutex_;
  std::condition_variable changed_;   // something to do
  std::condition_variable advanced_;  // an event is complete, or work has ended
  std::vector<StreamPtr> active_;     // streams that are not empty
  std::map<std::pair<int32_t, uint64_t>, StreamPtr> handles_;
  uint64_t seed_ = 1;
  std::chrono::microseconds longest_delay_{200};
  std::mt19937_64 random_{1};
  uint64_t next_stream_ = 1;
  const Stream* running_ = nullptr;
  uint64_t faults_ = 0;
  std::string last_fault_;
};

/// Work in order. The mutex of the machine guards it.
class Stream : public std::enable_shared_from_this<Stream> {
 private:
  friend class Machine;
  /// Waits for an event, then for its delay, does its work and completes its own event.
  struct Item {
    std::function<void()> work;
    EventPtr records;
    EventPtr waits;
    std::chrono::microseconds delay;
    Clock::time_point due;  // not set until it may start
  };
  uint64_t number_ = 0;
  uint64_t put_ = 0;
  std::deque<Item> items_;
};

}  // namespace c10d::softdev
