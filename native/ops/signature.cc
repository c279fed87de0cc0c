#include "ops/signature.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "ops/hash.h"
#include "ops/op_parts.h"

namespace c10d {

Signature signature_for(const Op& op, int other, int size) {
  return {call_of(op), part_to(op, other, size).bytes, part_from(op, other, size).bytes};
}

uint64_t hash_of(uint64_t seed, const Call& call) {
  uint64_t words[sizeof call / sizeof(uint64_t)];
  std::memcpy(words, &call, sizeof call);
  for (const uint64_t word : words) seed = mixed(seed, word);
  return seed;
}

Failure desync(c10d_mismatch kind, int rank, int other, std::string text) {
  return Failure::of_mismatch(kind, std::move(text), rank, other);
}

std::optional<Failure> mismatch_of(const Signature& own, int rank, const Signature& theirs, int other, bool apart) {
  // A rank that refused a call alone is one ahead.
  const uint64_t number = std::min(own.call.number, theirs.call.number);
  if (!agree(own.call, theirs.call)) {
    return desync(C10D_MISMATCH_CALL, rank, other, mismatch_text(rank, own.call, other, theirs.call, apart))
        .of_collective(number);
  }
  const auto differs = [&](int from, uint64_t sent, int to, uint64_t expected) -> std::optional<Failure> {
    if (sent == expected) return std::nullopt;
    return desync(C10D_MISMATCH_SPLITS, rank, other, split_mismatch_text(own.call, from, sent, to, expected))
        .of_collective(number);
  };
  // Both ranks first compare what the lower rank receives.
  auto in = differs(other, theirs.sent, rank, own.expected);
  auto out = differs(rank, own.sent, other, theirs.expected);
  if (rank < other) return in ? in : out;
  return out ? out : in;
}

}  // namespace c10d
