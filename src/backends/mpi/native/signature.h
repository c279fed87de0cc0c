// A rank's call, as it is sent to the others before a collective begins.
#pragma once

#include <cstdint>

#include "engine/call_text.h"
#include "engine/op.h"

namespace c10d::mpi_shim {

struct Signature {
  c10d::Call call;
  /// Of an all-to-all: bytes that go to the receiver of this signature, and that are expected from it.
  uint64_t sent = 0;
  uint64_t expected = 0;
  /// Whether the data of a small op follows.
  uint64_t carries_data = 0;
};
// What follows is aligned for every dtype.
static_assert(sizeof(Signature) % 16 == 0, "no padding is needed");

Signature signature_of(const Op& op);

/// Fills in what goes to a rank and is expected of it, in a group of this size.
void set_parts(Signature& signature, const Op& op, int other, int size);

/// Throws Failure with C10D_ERR_DESYNC, naming both ranks and both calls, unless they fit together. `own` is what this rank
/// has sent to the other one.
void require_same(const Signature& own, int rank, const Signature& theirs, int other);

}  // namespace c10d::mpi_shim
