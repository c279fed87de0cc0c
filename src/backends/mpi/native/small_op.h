// Small collectives, whose data travels with the signatures and is put together by every rank for itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "engine/op.h"

namespace c10d::mpi_shim {

/// Bytes that a signature carries at most.
constexpr size_t kMostCarried = 1024;

/// Part of a buffer of an all-to-all.
struct Part {
  uint8_t* data = nullptr;
  uint64_t bytes = 0;
};

/// What an all-to-all sends to a rank and receives from it; empty for any other op.
Part part_to(const Op& op, int other, int size);
Part part_from(const Op& op, int other, int size);

/// Whether this rank's data is small enough.
bool is_small(const Op& op, int size);

/// Copies what `rank` has for `to` in a small collective of `size` ranks; returns the bytes.
size_t copy_part(const Op& op, int rank, int to, int size, uint8_t* at);

/// Writes the results of a small collective. `part(i)` is what rank i had for this one, which may be written to.
void finish_small(const Op& op, int rank, int size, const std::function<uint8_t*(int)>& part);

}  // namespace c10d::mpi_shim
