#include "mesh/direct.h"

#include "mesh/direct_impl.h"

namespace c10d {

void DirectCollective::Impl::queue() {
  switch (op_.request.opcode) {
    case C10D_OP_ALLREDUCE:
      return all_reduce(op_.outputs[0]);
    case C10D_OP_ALLREDUCE_COALESCED:
      return all_reduce_list();
    case C10D_OP_REDUCE_SCATTER:
      return reduce_scatter(op_.inputs);
    case C10D_OP_REDUCE_SCATTER_BASE:
      return reduce_scatter(parts(op_.inputs[0], op_.outputs[0].bytes));
    case C10D_OP_ALLGATHER:
      return all_gather(op_.outputs);
    case C10D_OP_ALLGATHER_BASE:
      return all_gather(parts(op_.outputs[0], op_.inputs[0].bytes));
    case C10D_OP_ALLTOALL:
      return all_to_all(op_.outputs, op_.inputs);
    case C10D_OP_ALLTOALL_BASE:
      return all_to_all(split(op_.outputs[0], op_.output_splits), split(op_.inputs[0], op_.input_splits));
    case C10D_OP_BROADCAST:
      return broadcast();
    case C10D_OP_GATHER:
      return gather();
    case C10D_OP_SCATTER:
      return scatter();
    case C10D_OP_BARRIER:
      return (op_.request.flags & C10D_FLAG_MONITORED) != 0 ? monitored_barrier() : barrier();
    default:
      return compare();
  }
}

std::vector<c10d_buffer> DirectCollective::Impl::parts(const c10d_buffer& whole, size_t bytes) const {
  std::vector<c10d_buffer> made;
  for (size_t i = 0; i < ranks_; i++) made.push_back({whole.address + i * bytes, bytes});
  return made;
}

std::vector<c10d_buffer> DirectCollective::Impl::split(const c10d_buffer& whole,
                                                       const std::vector<uint64_t>& splits) const {
  if (splits.empty()) return parts(whole, whole.bytes / ranks_);
  std::vector<c10d_buffer> made;
  uint64_t address = whole.address;
  for (const uint64_t elements : splits) {
    made.push_back({address, elements * element_});
    address += made.back().bytes;
  }
  return made;
}

DirectCollective::DirectCollective(const Op& op, Connections& connections)
    : impl_(std::make_unique<Impl>(op, connections)) {}
DirectCollective::~DirectCollective() = default;
bool DirectCollective::begin() { return impl_->begin(); }
void DirectCollective::finish() { impl_->finish(); }
bool DirectCollective::finish_by(Clock::time_point deadline) { return impl_->finish_by(deadline); }

bool is_direct(const Op& op) {
  switch (op.request.opcode) {
    case C10D_OP_BARRIER:
    case C10D_OP_BROADCAST:
    case C10D_OP_ALLREDUCE:
    case C10D_OP_ALLREDUCE_COALESCED:
    case C10D_OP_ALLGATHER:
    case C10D_OP_ALLGATHER_BASE:
    case C10D_OP_GATHER:
    case C10D_OP_SCATTER:
    case C10D_OP_REDUCE_SCATTER:
    case C10D_OP_REDUCE_SCATTER_BASE:
    case C10D_OP_ALLTOALL:
    case C10D_OP_ALLTOALL_BASE:
      return true;
    default:
      return false;
  }
}

void run_direct(const Op& op, uint32_t sequence, Connections& connections) {
  connections.await_turn(sequence);
  DirectCollective collective(op, connections);
  if (!collective.begin()) collective.finish();
}

}  // namespace c10d
