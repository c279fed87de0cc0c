// Small collectives, whose data travels with the signatures and is put together by every rank for itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "ops/op.h"

namespace c10d {

/// Bytes that a signature carries at most.
constexpr size_t kMostCarried = 1024;

/// Whether what this rank has for each other one, and each has for it, is small enough to be sent to it alone.
bool is_small(const Op& op, int size);

/// Copies what `rank` has for `to` in a small collective of `size` ranks; returns the bytes.
size_t copy_part(const Op& op, int rank, int to, int size, uint8_t* at);

/// Writes the results of a small collective. `part(i)` is what rank i had for this one, which may be written to.
void finish_small(const Op& op, int rank, int size, const std::function<uint8_t*(int)>& part);

/// For an exchange in which all ranks get the same from each: what a rank has for the others, one part after the other unless all
/// take the same. Bytes of that; of an all-to-all, those of this rank.
uint64_t bytes_for_all(const Op& op, int size);
/// Copies it.
void copy_for_all(const Op& op, int rank, int size, uint8_t* at);
/// Where the part for rank `to` begins. Of an all-to-all it depends on the sender, which has to say it.
uint64_t offset_of_part(const Op& op, int to, int size);

}  // namespace c10d
