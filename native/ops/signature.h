// What ranks send each other before the data of a collective moves, and the failure when it does not fit together.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ops/call_text.h"
#include "ops/failure.h"
#include "ops/op.h"

namespace c10d {

/// Of one rank, for another one. Fixed size, no pointers, no padding: it can be sent as it is.
struct Signature {
  Call call;
  /// Of an all-to-all: bytes that go to the receiver of this signature, and that are expected from it.
  uint64_t sent = 0;
  uint64_t expected = 0;
};
static_assert(sizeof(Signature) == sizeof(Call) + 16, "has padding");

/// For rank `other`, in a group of `size`.
Signature signature_for(const Op& op, int other, int size);

/// One number for a call, and for what came before it, which `seed` stands for: equal calls have equal ones, different calls
/// different ones but for chance.
uint64_t hash_of(uint64_t seed, const Call& call);

/// Every C10D_ERR_DESYNC is made here: `text` names the two ranks, of which `other` is not this one. Of a mismatch that was
/// reported they are as far as known, or -1.
Failure desync(c10d_mismatch kind, int rank, int other, std::string text);

/// In what this rank's signature for `other` and that of `other` for this one do not fit together. Of two ranks both say the
/// same. `apart`: one of them has ended more collectives than the other.
std::optional<Failure> mismatch_of(const Signature& own, int rank, const Signature& theirs, int other,
                                   bool apart = false);

/// The same of the first two ranks, in the order of all, that do not fit together, which may be two others: every rank that knows
/// all says the same. `signature_of(a, b)` is what rank a has for rank b, or nothing if that is not known.
template <class SignatureOf>
std::optional<Failure> first_mismatch(int rank, int size, SignatureOf signature_of) {
  for (int one = 0; one < size; one++) {
    for (int two = one + 1; two < size; two++) {
      const std::optional<Signature> there = signature_of(one, two);
      const std::optional<Signature> back = signature_of(two, one);
      if (!there || !back) continue;
      auto found = two == rank ? mismatch_of(*back, two, *there, one) : mismatch_of(*there, one, *back, two);
      if (found) return found;
    }
  }
  return std::nullopt;
}

/// Throws mismatch_of().
inline void require_same(const Signature& own, int rank, const Signature& theirs, int other) {
  if (const auto failure = mismatch_of(own, rank, theirs, other)) throw Failure(*failure);
}

}  // namespace c10d
