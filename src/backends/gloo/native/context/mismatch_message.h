// A message that reports calls or sizes that differ to other ranks, before connections break.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ops/failure.h"

namespace c10d::gloo_shim {

/// A message on one of Gloo's connections between Bun ranks. It has a preamble like Gloo's with an opcode that Gloo
/// does not have. The text follows.
struct MismatchMessage {
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

std::vector<char> encode_mismatch(const Failure& mismatch, bool apart);
/// `text` has `message.text_bytes` bytes.
Failure decode_mismatch(const MismatchMessage& message, const char* text);

}  // namespace c10d::gloo_shim
