// A device with its primary context.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <vector>

#include "arena.h"
#include "stream.h"

namespace cuemu {

/// The mutex of the world guards what is not atomic.
class Device {
 public:
  explicit Device(int index) : index(index) {}

  const int index;
  /// Whether the primary context exists.
  std::atomic<bool> active{false};
  /// Sticky error, or 0.
  std::atomic<CUresult> error{CUDA_SUCCESS};

  void retain();
  /// The last release destroys the context with all that is in it.
  CUresult release(std::unique_lock<std::mutex>& lock);

  /// Handles of contexts are numbers, too.
  CUcontext context() const { return reinterpret_cast<CUcontext>(first_context + static_cast<uint64_t>(index)); }
  static int index_of(CUcontext context);
  /// nullptr while there is no context.
  const StreamPtr& legacy() const { return legacy_; }
  const std::vector<StreamPtr>& streams() const { return streams_; }
  StreamPtr open_stream(Stream::Kind kind, int priority);
  /// Called when it is closed and empty.
  void forget(const Stream& stream);
  /// Once there, it stays until the process ends.
  Arena& arena() { return *arena_; }
  bool has_address(uint64_t address) const { return arena_ != nullptr && arena_->contains(address); }
  /// Everything that is in the streams of the context.
  Points pending() const;
  /// Sets the sticky error, if it has none, or clears it.
  void fail(CUresult error);

 private:
  static constexpr uint64_t first_context = uint64_t{3} << 40;

  int retained_ = 0;
  uint64_t opened_ = 0;
  StreamPtr legacy_;
  /// Including the legacy stream and closed ones that are not empty.
  std::vector<StreamPtr> streams_;
  std::unique_ptr<Arena> arena_;
};

}  // namespace cuemu
