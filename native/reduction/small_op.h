// Small collectives: their data is sent with the signatures, and every rank computes the result itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "ops/op.h"

namespace c10d {

/// The most bytes that are sent with a signature.
constexpr size_t kMostCarried = 1024;

/// Whether what this rank has for each other rank, and each has for it, is small enough.
bool is_small(const Op& op, int size);

/// Copies what `rank` has for `to` in a small collective of `size` ranks; returns the bytes.
size_t copy_part(const Op& op, int rank, int to, int size, uint8_t* at);

/// Writes the results of a small collective. `part(i)` is what rank i had for this one; it may be overwritten.
void finish_small(const Op& op, int rank, int size, const std::function<uint8_t*(int)>& part);

/// For an exchange in which a rank sends the same bytes to all others: their parts one after the other, or a single one
/// if all receive the same. Returns the bytes; for an all-to-all, those of this rank.
uint64_t bytes_for_all(const Op& op, int size);
/// Copies these bytes.
void copy_for_all(const Op& op, int rank, int size, uint8_t* at);
/// Offset in them of the part for rank `to`. In an all-to-all it depends on the sender, which has to send it.
uint64_t offset_of_part(const Op& op, int to, int size);

}  // namespace c10d
