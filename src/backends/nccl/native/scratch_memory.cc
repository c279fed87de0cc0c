#include "scratch_memory.h"

#include <algorithm>

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
  const size_t size = std::max({bytes, 2 * bytes_, kSmallest});
  CuAddress block = 0;
  require(load_library().cuda.mem_alloc(&block, size), "cuMemAlloc of scratch memory");
  blocks_.push_back(block);
  bytes_ = size;
  return block;
}

}  // namespace c10d::nccl_shim
