#include "device.h"

#include <algorithm>
#include <utility>

#include "config.h"
#include "faults.h"
#include "world.h"

namespace cuemu {

int Device::index_of(CUcontext context) {
  const uint64_t index = reinterpret_cast<uint64_t>(context) - first_context;
  return index < World::the().devices.size() ? static_cast<int>(index) : -1;
}

void Device::retain() {
  if (retained_ == 0) {
    if (arena_ == nullptr) arena_ = std::make_unique<Arena>(config().memory);
    legacy_ = open_stream(Stream::Kind::legacy, 0);
    active = true;
  }
  retained_++;
}

CUresult Device::release(std::unique_lock<std::mutex>& lock) {
  if (retained_ == 0) return fault(CUDA_ERROR_INVALID_CONTEXT, "device %d: released more often than retained", index);
  if (--retained_ > 0) return CUDA_SUCCESS;
  active = false;
  World& world = World::the();
  if (!world.await_for(lock, config().free_wait, [&] { return pending().empty(); })) {
    fault(CUDA_SUCCESS, "device %d: the context was released while work is queued", index);
  }
  for (const auto& stream : std::vector<StreamPtr>(streams_)) {
    world.streams.remove(std::exchange(stream->handle, 0));
    stream->close();
  }
  legacy_ = nullptr;
  world.events.remove_if([&](const Event& event) { return &event.device == this; });
  std::vector<BlockPtr> left;
  for (const auto& [address, block] : world.blocks) {
    if (block->device == index && !block->freed) left.push_back(block);
  }
  for (const auto& block : left) world.free(lock, "cuDevicePrimaryCtxRelease", block);
  return CUDA_SUCCESS;
}

StreamPtr Device::open_stream(Stream::Kind kind, int priority) {
  const uint64_t number = static_cast<uint64_t>(index) << 20 | opened_++;
  return streams_.emplace_back(std::make_shared<Stream>(*this, kind, priority, number));
}

void Device::forget(const Stream& stream) {
  const auto found =
      std::find_if(streams_.begin(), streams_.end(), [&](const auto& each) { return each.get() == &stream; });
  if (found != streams_.end()) streams_.erase(found);
}

Points Device::pending() const {
  Points points;
  for (const auto& stream : streams_) {
    for (auto& point : stream->pending()) points.push_back(std::move(point));
  }
  return points;
}

void Device::fail(CUresult next) {
  if (next != CUDA_SUCCESS && error != CUDA_SUCCESS) return;
  error = next;
  for (const auto& stream : streams_) stream->wake();
  World::the().notify();
}

}  // namespace cuemu
