#include "scratch_memory.h"

#include <algorithm>
#include <cerrno>
#include <string>

namespace c10d::nccl_shim {

namespace {

constexpr size_t kSmallest = size_t{1} << 16;

}  // namespace

ScratchMemory::~ScratchMemory() {
  const ContextScope scope(context_);
  for (const CuAddress block : blocks_) load_library().cuda.mem_free(block);
}

CuAddress ScratchMemory::reserve(size_t bytes) {
  if (bytes <= bytes_) return blocks_.back();
  // Doubled, so that the blocks before it together are no larger.
  size_t size = std::max({bytes, 2 * bytes_, kSmallest});
  CuAddress block = 0;
  CuResult result = load_library().cuda.mem_alloc(&block, size);
  // Without room for later.
  if (result == CuResult::out_of_memory) result = load_library().cuda.mem_alloc(&block, size = bytes);
  if (result == CuResult::out_of_memory) {
    throw Failure::of_shortage(
        "the device has no " + std::to_string(bytes) +
            " bytes left that the op needs besides its tensors: free memory, also that of caches, or "
            "pass tensors that follow each other in memory",
        ENOMEM);
  }
  require(result, "cuMemAlloc of scratch memory");
  blocks_.push_back(block);
  bytes_ = size;
  return block;
}

}  // namespace c10d::nccl_shim
