// A list of buffers as one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "c10d.h"
#include "ops/checked_size.h"

namespace c10d {

/// One buffer, not initialized, to copy a list of buffers into and out of.
class Flat {
 public:
  explicit Flat(size_t bytes) : data_(new uint8_t[std::max<size_t>(bytes, 1)]) {}
  uint8_t* data() const { return data_.get(); }

  void gather_from(const std::vector<c10d_buffer>& buffers) const {
    uint8_t* at = data();
    for (const auto& buffer : buffers) {
      if (buffer.bytes > 0) std::memcpy(at, reinterpret_cast<const void*>(buffer.address), buffer.bytes);
      at += buffer.bytes;
    }
  }
  void scatter_to(const std::vector<c10d_buffer>& buffers) const {
    const uint8_t* at = data();
    for (const auto& buffer : buffers) {
      if (buffer.bytes > 0) std::memcpy(reinterpret_cast<void*>(buffer.address), at, buffer.bytes);
      at += buffer.bytes;
    }
  }

 private:
  std::unique_ptr<uint8_t[]> data_;
};

/// The engine refuses lists whose total size does not fit in 64 bits.
inline size_t total_bytes(const std::vector<c10d_buffer>& buffers) { return checked_sum(buffers).value_or(0); }

}  // namespace c10d
