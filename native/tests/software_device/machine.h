// The streams of all software devices, and the one thread that does what is put into them: late, by delays from a seed.
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

/// A point in a stream. It has come when everything before it is done. The mutex of the machine guards it.
class Moment {
 private:
  friend class Machine;
  bool come_ = false;
};
using MomentPtr = std::shared_ptr<Moment>;

class Stream;
using StreamPtr = std::shared_ptr<Stream>;

/// One thread does all work, so that an op that reads what another stream writes, without having waited for it, sees
/// what should not be there yet, but is no data race.
class Machine {
 public:
  static Machine& the();

  /// Delays are drawn by this seed from now on: none, or up to the longest, before each piece of work.
  void set_seed(uint64_t seed, std::chrono::microseconds longest_delay);
  uint64_t seed() const;

  StreamPtr make_stream(int32_t device);
  /// Streams by handle: 0 is the default stream of each device.
  uint64_t open_stream(int32_t device);
  StreamPtr find_stream(int32_t device, uint64_t handle);
  bool close_stream(int32_t device, uint64_t handle);

  void put(Stream& stream, std::function<void()> work);
  MomentPtr record(Stream& stream);
  /// What is put into the stream from now on waits for the moment.
  void wait(Stream& stream, MomentPtr moment);
  /// Lets a moment come that is in no stream, or will not come by itself.
  void let_come(Moment& moment);
  bool has_come(const Moment& moment) const;
  /// Blocks the caller; false when the deadline has passed.
  bool await(const Moment& moment, Clock::time_point deadline);
  /// Drops what is in the stream, whose moments have come then; returns when no work of it is going on.
  void clear(Stream& stream);

  /// Work that has thrown: how often, and what was the last one.
  uint64_t faults() const;
  std::string last_fault() const;

 private:
  Machine();
  void run();
  Stream* next_ready(Clock::time_point now, Clock::time_point& wake_at);
  void enqueue(Stream& stream, std::function<void()> work, MomentPtr records, MomentPtr waits);
  void come(Moment& moment);

  mutable std::mutex mutex_;
  std::condition_variable changed_;   // something to do
  std::condition_variable advanced_;  // a moment has come, or work has ended
  std::vector<StreamPtr> active_;     // streams with something in them
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
  /// It waits for a moment, then for its delay, does its work and lets its own moment come.
  struct Item {
    std::function<void()> work;
    MomentPtr records;
    MomentPtr waits;
    std::chrono::microseconds delay;
    Clock::time_point due;  // none until it may begin
  };
  uint64_t number_ = 0;
  uint64_t put_ = 0;
  std::deque<Item> items_;
};

}  // namespace c10d::softdev
