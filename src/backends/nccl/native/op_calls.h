// The NCCL calls of one op: the same that PyTorch makes, so that ranks of both can share a communicator.
#pragma once

#include <cstddef>
#include <vector>

#include "element_types.h"
#include "library.h"
#include "mutation.h"
#include "ops/op.h"

namespace c10d::nccl_shim {

/// What all ops of a group have in common.
struct Place {
  int rank;
  int world_size;
  NcclComm comm;
  CuStream stream;
  const Mutation& mutation;
};

/// Ops of PREMUL_SUM, which exist until the calls that use them have been issued.
using MadeOps = std::vector<NcclReduceOp>;

/// Memory of its own that an op needs.
size_t scratch_bytes(const Op& op, int world_size);
/// The same, so that what follows is aligned for every dtype.
inline size_t aligned_scratch_bytes(const Op& op, int world_size) {
  constexpr size_t kAlignment = 256;
  return (scratch_bytes(op, world_size) + kAlignment - 1) / kAlignment * kAlignment;
}

/// Whether the op takes several NCCL calls, which are one group then.
bool makes_several_calls(const Op& op);

/// Copies what NCCL expects in one piece into the scratch memory, and what stays on this rank to its place. Throws
/// Failure.
void copy_in(const Op& op, const Place& place, CuAddress scratch);

/// Between ncclGroupStart and ncclGroupEnd, if there are several. Throws Failure.
void call_nccl(const Op& op, const Place& place, CuAddress scratch, MadeOps& made);

/// Copies results out of the scratch memory. Throws Failure.
void copy_out(const Op& op, const Place& place, CuAddress scratch);

/// Destroys the ops that were made.
void destroy(MadeOps& made, NcclComm comm);

}  // namespace c10d::nccl_shim
