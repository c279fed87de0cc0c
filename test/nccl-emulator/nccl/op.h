// One collective or message of a rank: what it is, and which memory it uses.
#pragma once

#include <cstdint>
#include <string>

#include "elements.h"
#include "nccl_api.h"

namespace nccl_emulator {

enum class OpKind : uint8_t {
  all_reduce,
  reduce,
  broadcast,
  all_gather,
  reduce_scatter,
  all_to_all,
  gather,
  scatter,
  send,
  recv,
};

const char* op_name(OpKind kind);

/// A reduction as ncclRedOp_t means it on one communicator.
struct RedOp {
  ncclRedOp_t code = ncclSum;  ///< ncclNumOps for all that users make.
  Reduction reduction = Reduction::sum;
  Element factor{};
  uint64_t factor_address = 0;  ///< Device memory that holds the factor when the op runs, or 0.
};

struct Op {
  OpKind kind;
  uint64_t in, out;
  size_t count;
  ncclDataType_t dtype;
  RedOp redop;
  int root;  ///< Or the peer of a message.
  cudaStream_t stream;
  uint64_t index = 0;     ///< Among all ops of the communicator on this rank.
  uint64_t sequence = 0;  ///< Among its collectives.
  bool hangs = false;

  bool message() const { return kind == OpKind::send || kind == OpKind::recv; }
  bool reduces() const {
    return kind == OpKind::all_reduce || kind == OpKind::reduce || kind == OpKind::reduce_scatter;
  }
  bool rooted() const {
    return kind == OpKind::reduce || kind == OpKind::broadcast || kind == OpKind::gather || kind == OpKind::scatter;
  }
  size_t bytes() const { return count * element_size(dtype); }
  size_t in_bytes(int rank, int ranks) const;
  size_t out_bytes(int rank, int ranks) const;
};

/// What goes ahead of the bytes, for the receiver to see that both ranks call the same.
struct alignas(8) MessageHead {
  uint8_t kind, dtype, redop, unused;
  int32_t root;
  uint64_t sequence, count, bytes;
  Element factor;

  bool agrees(const MessageHead& other) const;
  std::string text() const;
};

}  // namespace nccl_emulator
