// The order in which a communicator's launches run, which is that of the calls, on whatever streams they are.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <set>

namespace nccl_emulator {

class Turns {
 public:
  using Stop = std::function<bool()>;

  uint64_t take();
  void end(uint64_t turn);
  bool idle();
  /// Until all earlier turns have ended, or `stop`.
  void wait_for(uint64_t turn, const Stop& stop);
  /// Until all turns have ended, or `stop`.
  void wait_idle(const Stop& stop);
  /// A launch is at work, between these two.
  void enter();
  void leave();
  void wait_left();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t next_ = 0;
  int inside_ = 0;
  std::set<uint64_t> open_;
};

}  // namespace nccl_emulator
