#include "op_calls.h"

#include <algorithm>
#include <string>

#include "ops/call_text.h"
#include "ops/op_parts.h"

namespace c10d::nccl_shim {

namespace {

using Buffers = std::vector<c10d_buffer>;

void* pointer(CuAddress address) { return reinterpret_cast<void*>(address); }

/// Whether buffers of the same size follow each other in memory.
bool is_one_piece(const Buffers& buffers) {
  for (size_t i = 1; i < buffers.size(); i++) {
    if (buffers[i].bytes != buffers[0].bytes) return false;
    if (buffers[i].address != buffers[i - 1].address + buffers[i - 1].bytes) return false;
  }
  return true;
}

bool has_one_size(const Buffers& buffers) {
  return std::all_of(buffers.begin(), buffers.end(), [&](const auto& one) { return one.bytes == buffers[0].bytes; });
}

bool gathers_to_scratch(const Op& op) { return op.request.opcode == C10D_OP_ALLGATHER && !is_one_piece(op.outputs); }

bool scatters_from_scratch(const Op& op) {
  return op.request.opcode == C10D_OP_REDUCE_SCATTER && has_one_size(op.inputs) && !is_one_piece(op.inputs);
}

void copy(CuAddress to, CuAddress from, size_t bytes, CuStream stream) {
  if (bytes == 0 || to == from) return;
  require(load_library().cuda.memcpy_dtod_async(to, from, bytes, stream), "cuMemcpyDtoDAsync");
}

void require_nccl(NcclResult result, NcclComm comm, const char* what) {
  if (result != NcclResult::success && result != NcclResult::in_progress) throw nccl_failure(result, comm, what);
}

/// The calls of one op.
class Calls {
 public:
  Calls(const Op& op, const Place& place, MadeOps& made)
      : op_(op),
        place_(place),
        nccl_(load_library().nccl),
        type_(is_reduction(op.request.opcode)
                  ? reduced_type(op.request.dtype, op.request.reduce_op, load_library().version)
                  : moved_type(op.request.dtype, load_library().version)),
        root_(place.mutation.is("next-root") ? (op.request.peer + 1) % place.world_size : op.request.peer) {
    if (is_reduction(op.request.opcode)) reduce_op_ = make_reduce_op(made);
  }

  void broadcast(CuAddress from, CuAddress to, size_t bytes) const {
    if (bytes == 0) return;
    check(nccl_.broadcast(pointer(from), pointer(to), count(bytes), type_.type, root_, place_.comm, place_.stream),
          "ncclBroadcast");
  }
  void all_reduce(CuAddress from, CuAddress to, size_t bytes) const {
    if (bytes == 0) return;
    check(
        nccl_.all_reduce(pointer(from), pointer(to), count(bytes), type_.type, reduce_op_, place_.comm, place_.stream),
        "ncclAllReduce");
  }
  void reduce(CuAddress from, CuAddress to, size_t bytes, int root) const {
    if (bytes == 0) return;
    check(nccl_.reduce(pointer(from), pointer(to), count(bytes), type_.type, reduce_op_, root, place_.comm,
                       place_.stream),
          "ncclReduce");
  }
  void all_gather(CuAddress from, CuAddress to, size_t bytes) const {
    if (bytes == 0) return;
    check(nccl_.all_gather(pointer(from), pointer(to), count(bytes), type_.type, place_.comm, place_.stream),
          "ncclAllGather");
  }
  void reduce_scatter(CuAddress from, CuAddress to, size_t bytes) const {
    if (bytes == 0) return;
    check(nccl_.reduce_scatter(pointer(from), pointer(to), count(bytes), type_.type, reduce_op_, place_.comm,
                               place_.stream),
          "ncclReduceScatter");
  }
  void send(CuAddress from, size_t bytes, int peer) const {
    check(nccl_.send(pointer(from), count(bytes), type_.type, peer, place_.comm, place_.stream), "ncclSend");
  }
  void recv(CuAddress to, size_t bytes, int peer) const {
    check(nccl_.recv(pointer(to), count(bytes), type_.type, peer, place_.comm, place_.stream), "ncclRecv");
  }

  int root() const { return root_; }

 private:
  size_t count(size_t bytes) const { return bytes / type_.bytes; }
  void check(NcclResult result, const char* what) const { require_nccl(result, place_.comm, what); }

  NcclReduceOp make_reduce_op(MadeOps& made) const {
    const auto& request = op_.request;
    if (request.reduce_op == C10D_AVG && place_.mutation.is("sum-for-avg")) return kNcclSum;
    if (const auto builtin = builtin_reduce_op(request.dtype, request.reduce_op)) return *builtin;
    Scalar factor(type_.type, request.premul_factor);
    NcclReduceOp op = kNcclSum;
    check(nccl_.red_op_create_pre_mul_sum(&op, factor.address(), type_.type, kNcclScalarOnHost, place_.comm),
          "ncclRedOpCreatePreMulSum");
    if (place_.mutation.is("early-op-destroy")) {
      nccl_.red_op_destroy(op, place_.comm);
    } else {
      made.push_back(op);
    }
    return op;
  }

  const Op& op_;
  const Place& place_;
  const NcclApi& nccl_;
  const ElementType type_;
  const int root_;
  NcclReduceOp reduce_op_ = kNcclSum;
};

/// What an op that works in place reads: its output, if it has no input.
const c10d_buffer& source(const Op& op, size_t i) { return op.inputs.empty() ? op.outputs[i] : op.inputs[i]; }

void call_reduce_scatter(const Op& op, const Place& place, CuAddress scratch, const Calls& calls) {
  const auto& out = op.outputs[0];
  if (has_one_size(op.inputs)) {
    return calls.reduce_scatter(scatters_from_scratch(op) ? scratch : op.inputs[0].address, out.address, out.bytes);
  }
  for (int root = 0; root < place.world_size; root++) {
    const auto& in = op.inputs[static_cast<size_t>(root)];
    calls.reduce(in.address, root == place.rank ? out.address : in.address, in.bytes, root);
  }
}

/// Parts of no size are left out, as PyTorch does.
void call_all_to_all(const Op& op, const Place& place, const Calls& calls) {
  for (int other = 0; other < place.world_size; other++) {
    if (other == place.rank) continue;
    const Part to = part_to(op, other, place.world_size);
    const Part from = part_from(op, other, place.world_size);
    if (to.bytes > 0) calls.send(reinterpret_cast<CuAddress>(to.data), to.bytes, other);
    if (from.bytes > 0) calls.recv(reinterpret_cast<CuAddress>(from.data), from.bytes, other);
  }
}

void call_gather(const Op& op, const Place& place, const Calls& calls) {
  if (place.rank != op.request.peer) return calls.send(op.inputs[0].address, op.inputs[0].bytes, calls.root());
  for (int other = 0; other < place.world_size; other++) {
    const auto& out = op.outputs[static_cast<size_t>(other)];
    if (other != place.rank) calls.recv(out.address, out.bytes, other);
  }
}

void call_scatter(const Op& op, const Place& place, const Calls& calls) {
  if (place.rank != op.request.peer) return calls.recv(op.outputs[0].address, op.outputs[0].bytes, calls.root());
  for (int other = 0; other < place.world_size; other++) {
    const auto& in = op.inputs[static_cast<size_t>(other)];
    if (other != place.rank) calls.send(in.address, in.bytes, other);
  }
}

}  // namespace

size_t scratch_bytes(const Op& op, int world_size) {
  if (op.request.opcode == C10D_OP_BARRIER) return sizeof(float);
  if (gathers_to_scratch(op)) return op.inputs[0].bytes * static_cast<size_t>(world_size);
  return scatters_from_scratch(op) ? op.outputs[0].bytes * static_cast<size_t>(world_size) : 0;
}

bool makes_several_calls(const Op& op) {
  switch (op.request.opcode) {
    case C10D_OP_ALLREDUCE_COALESCED:
    case C10D_OP_ALLGATHER_COALESCED:
    case C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED:
      return op.outputs.size() > 1;
    case C10D_OP_GATHER:
    case C10D_OP_SCATTER:
    case C10D_OP_ALLTOALL:
    case C10D_OP_ALLTOALL_BASE:
      return true;
    case C10D_OP_REDUCE_SCATTER:
      return !has_one_size(op.inputs);
    default:
      return false;
  }
}

void copy_in(const Op& op, const Place& place, CuAddress scratch) {
  const auto own = static_cast<size_t>(place.rank);
  switch (op.request.opcode) {
    case C10D_OP_REDUCE_SCATTER:
      if (!scatters_from_scratch(op)) return;
      for (const auto& in : op.inputs) {
        copy(scratch, in.address, in.bytes, place.stream);
        scratch += in.bytes;
      }
      return;
    case C10D_OP_GATHER:
      if (place.rank == op.request.peer) {
        copy(op.outputs[own].address, op.inputs[0].address, op.inputs[0].bytes, place.stream);
      }
      return;
    case C10D_OP_SCATTER:
      if (place.rank == op.request.peer) {
        copy(op.outputs[0].address, op.inputs[own].address, op.outputs[0].bytes, place.stream);
      }
      return;
    case C10D_OP_ALLTOALL:
    case C10D_OP_ALLTOALL_BASE: {
      if (place.mutation.is("no-self-part")) return;
      const Part to = part_to(op, place.rank, place.world_size);
      const Part from = part_from(op, place.rank, place.world_size);
      return copy(reinterpret_cast<CuAddress>(from.data), reinterpret_cast<CuAddress>(to.data), to.bytes, place.stream);
    }
    default:
      return;
  }
}

void call_nccl(const Op& op, const Place& place, CuAddress scratch, MadeOps& made) {
  if (op.request.opcode == C10D_OP_BARRIER) {
    const auto& nccl = load_library().nccl;
    const auto result =
        nccl.all_reduce(pointer(scratch), pointer(scratch), 1, NcclType::float32, kNcclSum, place.comm, place.stream);
    return require_nccl(result, place.comm, "ncclAllReduce of a barrier");
  }
  const Calls calls(op, place, made);
  const auto& in = op.inputs;
  const auto& out = op.outputs;
  switch (op.request.opcode) {
    case C10D_OP_BROADCAST:
      return calls.broadcast(source(op, 0).address, out[0].address, out[0].bytes);
    case C10D_OP_REDUCE:
      return calls.reduce(source(op, 0).address, out[0].address, out[0].bytes, calls.root());
    case C10D_OP_ALLREDUCE:
    case C10D_OP_ALLREDUCE_COALESCED:
      for (size_t i = 0; i < out.size(); i++) calls.all_reduce(source(op, i).address, out[i].address, out[i].bytes);
      return;
    case C10D_OP_ALLGATHER:
      return calls.all_gather(in[0].address, gathers_to_scratch(op) ? scratch : out[0].address, in[0].bytes);
    case C10D_OP_ALLGATHER_BASE:
    case C10D_OP_ALLGATHER_COALESCED:
      for (size_t i = 0; i < in.size(); i++) calls.all_gather(in[i].address, out[i].address, in[i].bytes);
      return;
    case C10D_OP_REDUCE_SCATTER:
      return call_reduce_scatter(op, place, scratch, calls);
    case C10D_OP_REDUCE_SCATTER_BASE:
    case C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED:
      for (size_t i = 0; i < out.size(); i++) calls.reduce_scatter(in[i].address, out[i].address, out[i].bytes);
      return;
    case C10D_OP_GATHER:
      return call_gather(op, place, calls);
    case C10D_OP_SCATTER:
      return call_scatter(op, place, calls);
    case C10D_OP_ALLTOALL:
    case C10D_OP_ALLTOALL_BASE:
      return call_all_to_all(op, place, calls);
    case C10D_OP_SEND:
      return calls.send(in[0].address, in[0].bytes, op.request.peer);
    case C10D_OP_RECV:
      return calls.recv(out[0].address, out[0].bytes, op.request.peer);
    default:
      throw Failure(C10D_ERR_UNSUPPORTED, "NCCL has no such op");
  }
}

void copy_out(const Op& op, const Place& place, CuAddress scratch) {
  if (!gathers_to_scratch(op)) return;
  for (const auto& out : op.outputs) {
    copy(out.address, scratch, out.bytes, place.stream);
    scratch += out.bytes;
  }
}

void destroy(MadeOps& made, NcclComm comm) {
  for (const NcclReduceOp op : made) load_library().nccl.red_op_destroy(op, comm);
  made.clear();
}

}  // namespace c10d::nccl_shim
