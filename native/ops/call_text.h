// What the ranks of a group must agree on in a collective, and the message when they do not. The fake backend has the
// same messages (src/backends/fake/call-text.ts).
#pragma once

#include <cstdint>
#include <string>

#include "ops/op.h"

namespace c10d {

/// A collective as one rank calls it. Fixed size, no pointers, no padding: its bytes can be sent to other ranks.
struct Call {
  /// Op::number.
  uint64_t number = 0;
  uint32_t opcode = 0;
  uint32_t dtype = 0;
  /// 0 for an op that does not reduce, and for SUM.
  uint32_t reduce_op = 0;
  /// -1 for an op without a root.
  int32_t root = -1;
  /// The flags that make it a different op: C10D_FLAG_MONITORED.
  uint32_t flags = 0;
  /// Number of tensors, where their sizes are the same on all ranks; 0 where sizes may differ, as in an all-to-all.
  uint32_t tensors = 0;
  /// Total number of their elements.
  uint64_t elements = 0;
  /// Hash of the size of each.
  uint64_t sizes = 0;
  /// For C10D_PREMUL_SUM, else 1.
  double premul_factor = 1;
};
static_assert(sizeof(Call) == 56, "has padding");

/// Whether an op with this opcode combines the elements of all ranks; whether it has a root.
bool is_reduction(uint32_t opcode);
bool is_rooted(uint32_t opcode);
/// Whether it is a collective that every shim over a library implements. Each adds its own to these; an op that a shim does
/// not know must be refused, never carried out as another one.
bool is_common_collective(uint32_t opcode);

/// The call that an op of this rank is.
Call call_of(const Op& op);

/// Whether two ranks make the same call, at the same place in the order.
bool agree(const Call& a, const Call& b);

/// E.g. "allReduce(float32[4], SUM)", "broadcast(float32[4], root 0)", "allToAll(float32)", "barrier()", and for a list
/// "allReduceCoalesced(3 tensors of float32, 12 elements, SUM)".
std::string text_of(const Call& call);

/// "rank 0 called allReduce(float32[4], SUM) as collective #3, rank 1 called allReduce(float32[4], MAX). ...", the same
/// on both ranks. The calls do not agree(). `apart`: one of the ranks has ended more collectives than the other.
std::string mismatch_text(int rank, const Call& call, int other_rank, const Call& other_call, bool apart = false);

/// For an all-to-all: "rank 0 called allToAll(float32) as collective #3, rank 1 called allToAll(float32), but rank 0
/// sends float32[4] to rank 1, which expects float32[3]".
std::string split_mismatch_text(const Call& call, int sender, uint64_t sent_bytes, int receiver,
                                uint64_t expected_bytes);

/// For a message: "rank 0 sent float32[4] with tag 5, rank 1 was to receive float32[3]".
std::string message_mismatch_text(uint32_t tag, int sender, uint32_t sent_dtype, uint64_t sent_bytes, int receiver,
                                  uint32_t expected_dtype, uint64_t expected_bytes);

}  // namespace c10d
