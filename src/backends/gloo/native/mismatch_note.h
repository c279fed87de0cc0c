// What a rank that knows of calls that differ sends to the others before its connections break.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ops/failure.h"

namespace c10d::gloo_shim {

/// A message on a connection of Gloo's, in the place of one of Gloo's own and of an opcode that Gloo does not have. Only for Bun's
/// ranks. It begins with a preamble like Gloo's; the text follows.
struct MismatchNote {
  static constexpr uint64_t kOpcode = 0x62756e2d6e6f7465;
  static constexpr size_t kMaxText = 4096;

  uint64_t bytes = 0;
  uint64_t opcode = kOpcode;
  uint64_t collective = 0;
  int32_t rank = -1;
  int32_t other_rank = -1;
  uint64_t text_bytes = 0;
  /// 1 if one of the two ranks has ended more collectives than the other.
  uint64_t apart = 0;
};

/// Of a mismatch of a collective.
std::vector<char> encode_note(const Failure& mismatch, bool apart);
/// `note.text_bytes` of text.
Failure decode_note(const MismatchNote& note, const char* text);

}  // namespace c10d::gloo_shim
