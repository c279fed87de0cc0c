// Work in order, on a thread of its own.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "block.h"
#include "driver_api.h"

namespace cuemu {

using Clock = std::chrono::steady_clock;

/// A point in a stream, complete when everything before it is done. The mutex of the world guards it.
struct Point {
  bool complete = false;
  Clock::time_point time;
  /// Streams that wait for it.
  std::vector<std::condition_variable*> waiting;
};
using PointPtr = std::shared_ptr<Point>;
using Points = std::vector<PointPtr>;

/// Something in a stream: it waits, works, and completes its point.
struct Item {
  std::string what;
  /// Not 0 is an asynchronous failure of the device.
  std::function<int()> work;
  Points waits;
  PointPtr done = std::make_shared<Point>();
  Blocks uses;
};

class Device;

/// The mutex of the world guards it. Its thread starts with the first item, and ends when the stream is closed and empty.
class Stream : public std::enable_shared_from_this<Stream> {
 public:
  enum class Kind { legacy, blocking, non_blocking };
  Stream(Device& device, Kind kind, int priority, uint64_t number)
      : device(device), kind(kind), priority(priority), number_(number) {}

  Device& device;
  const Kind kind;
  const int priority;
  /// Handle that the program has for it: 0 for a default stream.
  uint64_t handle = 0;

  /// Puts an item behind those that are there, and behind those of other streams that a default stream makes it wait for.
  void put(Item item);
  /// Points that are complete when the stream has done what is in it now, by the rules of the default stream.
  Points pending() const;
  /// No more items will be put. Those that are there are done still.
  void close();
  bool is_closed() const { return closed_; }
  void wake() { wake_.notify_all(); }

 private:
  using Lock = std::unique_lock<std::mutex>;
  void run();
  void run_item(Lock& lock, Item& item);

  const uint64_t number_;
  uint64_t put_count_ = 0;
  std::deque<Item> items_;
  /// The point of the last item; nullptr before the first.
  PointPtr last_;
  bool has_thread_ = false;
  bool closed_ = false;
  std::condition_variable wake_;
};
using StreamPtr = std::shared_ptr<Stream>;

/// Completes the point now.
void complete(Point& point);

}  // namespace cuemu
