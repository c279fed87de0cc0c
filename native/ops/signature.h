// What ranks send each other before the data of a collective, and the failure when it does not match.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ops/call_text.h"
#include "ops/failure.h"
#include "ops/op.h"

namespace c10d {

/// Of one rank, for another one. Fixed size, no pointers, no padding: its bytes can be sent.
struct Signature {
  Call call;
  /// Of an all-to-all: bytes that go to the receiver of this signature, and that are expected from it.
  uint64_t sent = 0;
  uint64_t expected = 0;
};
static_assert(sizeof(Signature) == sizeof(Call) + 16, "has padding");

/// For rank `other`, in a group of `size`.
Signature signature_for(const Op& op, int other, int size);

/// Hash of a call and of those before it, whose hash is `seed`: equal calls have equal hashes.
uint64_t hash_of(uint64_t seed, const Call& call);

/// Every C10D_ERR_DESYNC is created here. `text` names the two ranks; `other` is not this one. For
/// C10D_MISMATCH_REPORTED, a rank that is not known is -1.
Failure desync(c10d_mismatch kind, int rank, int other, std::string text);

/// How this rank's signature for `other` and that of `other` for this one do not match; the same on both ranks.
/// `apart`: one of them has ended more collectives than the other.
std::optional<Failure> mismatch_of(const Signature& own, int rank, const Signature& theirs, int other,
                                   bool apart = false);

/// The same for the first two of all ranks that do not match, possibly two others: it is the same on every rank that
/// has all signatures. `signature_of(a, b)` is what rank a has for rank b, or nothing if that is not known.
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
