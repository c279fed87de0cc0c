#include "op.h"

namespace nccl_emulator {

const char* op_name(OpKind kind) {
  switch (kind) {
    case OpKind::all_reduce:
      return "AllReduce";
    case OpKind::reduce:
      return "Reduce";
    case OpKind::broadcast:
      return "Broadcast";
    case OpKind::all_gather:
      return "AllGather";
    case OpKind::reduce_scatter:
      return "ReduceScatter";
    case OpKind::all_to_all:
      return "AlltoAll";
    case OpKind::gather:
      return "Gather";
    case OpKind::scatter:
      return "Scatter";
    case OpKind::send:
      return "Send";
    case OpKind::recv:
      return "Recv";
  }
  return "unknown op";
}

size_t Op::in_bytes(int rank, int ranks) const {
  switch (kind) {
    case OpKind::recv:
      return 0;
    case OpKind::broadcast:
      return rank == root ? bytes() : 0;
    case OpKind::scatter:
      return rank == root ? bytes() * static_cast<size_t>(ranks) : 0;
    case OpKind::reduce_scatter:
    case OpKind::all_to_all:
      return bytes() * static_cast<size_t>(ranks);
    default:
      return bytes();
  }
}

size_t Op::out_bytes(int rank, int ranks) const {
  switch (kind) {
    case OpKind::send:
      return 0;
    case OpKind::reduce:
      return rank == root ? bytes() : 0;
    case OpKind::gather:
      return rank == root ? bytes() * static_cast<size_t>(ranks) : 0;
    case OpKind::all_gather:
    case OpKind::all_to_all:
      return bytes() * static_cast<size_t>(ranks);
    default:
      return bytes();
  }
}

bool MessageHead::agrees(const MessageHead& other) const {
  return kind == other.kind && dtype == other.dtype && redop == other.redop && root == other.root &&
         sequence == other.sequence && count == other.count && bytes == other.bytes;
}

std::string MessageHead::text() const {
  auto what = static_cast<OpKind>(kind);
  std::string text = what == OpKind::send ? "a message" : op_name(what);
  text += " of " + std::to_string(count) + " elements of type " + std::to_string(dtype);
  if (what != OpKind::send) {
    text += " with operation " + std::to_string(redop) + ", root " + std::to_string(root) + ", collective number " +
            std::to_string(sequence);
  }
  return text;
}

}  // namespace nccl_emulator
