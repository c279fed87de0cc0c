// Sums and products of sizes, counts and splits. They come from outside, so each may be any number: a result that does
// not fit in 64 bits is nullopt, which equals no size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "c10d.h"

namespace c10d {

using CheckedSize = std::optional<uint64_t>;

inline CheckedSize checked_sum(CheckedSize a, CheckedSize b) {
  uint64_t sum = 0;
  if (!a || !b || __builtin_add_overflow(*a, *b, &sum)) return std::nullopt;
  return sum;
}

inline CheckedSize checked_product(CheckedSize a, CheckedSize b) {
  uint64_t product = 0;
  if (!a || !b || __builtin_mul_overflow(*a, *b, &product)) return std::nullopt;
  return product;
}

inline CheckedSize checked_sum(const std::vector<uint64_t>& sizes) {
  CheckedSize sum = 0;
  for (const uint64_t size : sizes) sum = checked_sum(sum, size);
  return sum;
}

/// Total bytes of a list of buffers.
inline CheckedSize checked_sum(const std::vector<c10d_buffer>& buffers) {
  CheckedSize sum = 0;
  for (const auto& buffer : buffers) sum = checked_sum(sum, buffer.bytes);
  return sum;
}

/// Whether there is one split per rank, in elements, and they add up to the buffer.
inline bool splits_fit(const std::vector<uint64_t>& splits, size_t ranks, size_t element_bytes,
                       const c10d_buffer& buffer) {
  return splits.size() == ranks && checked_product(checked_sum(splits), element_bytes) == buffer.bytes;
}

}  // namespace c10d
