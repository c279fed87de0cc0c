#include "op_run.h"

#include <cstring>

#include "cuda_emulator.h"

namespace nccl_emulator {
namespace {

constexpr char poison_byte = static_cast<char>(0xdb);
// A message of at most this many bytes may be on its way while its sender is done with it.
constexpr size_t eager_bytes = 1024;

}  // namespace

bool OpRun::bind(int device) {
  auto in_bytes = op_.in_bytes(rank_, ranks_);
  auto out_bytes = op_.out_bytes(rank_, ranks_);
  if (in_bytes > 0) in_ = static_cast<const char*>(cuemu_alias(device, op_.in, in_bytes));
  if (out_bytes > 0) out_ = static_cast<char*>(cuemu_alias(device, op_.out, out_bytes));
  if ((in_bytes > 0 && !in_) || (out_bytes > 0 && !out_)) return false;
  if (op_.redop.factor_address != 0) {
    auto size = element_size(op_.dtype);
    const void* factor = cuemu_alias(device, op_.redop.factor_address, size);
    if (!factor) return false;
    memcpy(op_.redop.factor.data(), factor, size);
  }
  bool overlap = in_ && out_ && op_.in < op_.out + out_bytes && op_.out < op_.in + in_bytes;
  if (overlap) {
    kept_input_.assign(in_, in_ + in_bytes);
    in_ = kept_input_.data();
  }
  return true;
}

void OpRun::poison() {
  if (out_) memset(out_, poison_byte, op_.out_bytes(rank_, ranks_));
}

MessageHead OpRun::head() const {
  MessageHead head{};
  head.kind = static_cast<uint8_t>(op_.message() ? OpKind::send : op_.kind);
  head.dtype = static_cast<uint8_t>(op_.dtype);
  if (op_.reduces()) head.redop = static_cast<uint8_t>(op_.redop.code > ncclNumOps ? ncclNumOps : op_.redop.code);
  head.root = op_.rooted() ? op_.root : -1;
  head.sequence = op_.message() ? 0 : op_.sequence;
  head.count = op_.count;
  head.bytes = op_.bytes();
  head.factor = op_.redop.factor;
  return head;
}

bool OpRun::gives_to(int peer) const {
  switch (op_.kind) {
    case OpKind::send:
      return peer == op_.root;
    case OpKind::recv:
      return false;
    case OpKind::broadcast:
    case OpKind::scatter:
      return rank_ == op_.root && peer != rank_;
    case OpKind::reduce:
    case OpKind::gather:
      return peer == op_.root && peer != rank_;
    default:
      return peer != rank_;
  }
}

bool OpRun::takes_from(int peer) const {
  switch (op_.kind) {
    case OpKind::recv:
      return peer == op_.root;
    case OpKind::send:
      return false;
    case OpKind::broadcast:
    case OpKind::scatter:
      return peer == op_.root && peer != rank_;
    case OpKind::reduce:
    case OpKind::gather:
      return rank_ == op_.root && peer != rank_;
    default:
      return peer != rank_;
  }
}

void OpRun::start(Exchange& exchange) {
  if (op_.count == 0) {
    finished_ = true;
    return;
  }
  auto channel = op_.message() ? Channel::messages : Channel::collectives;
  bool own_part_for_each = op_.kind == OpKind::reduce_scatter || op_.kind == OpKind::scatter;
  incoming_.assign(static_cast<size_t>(ranks_), nullptr);
  for (int peer = 0; peer < ranks_; peer++) {
    auto offset = own_part_for_each ? static_cast<size_t>(peer) * op_.bytes() : 0;
    if (gives_to(peer)) outgoing_.push_back(&exchange.send(peer, channel, head(), in_ + offset));
    if (takes_from(peer)) incoming_[static_cast<size_t>(peer)] = &exchange.receive(peer, channel, head());
  }
}

void OpRun::advance(bool eager) {
  if (finished_) return;
  for (auto* message : incoming_)
    if (message && !message->complete()) return;
  for (auto* message : outgoing_) {
    bool left = eager && message->complete() && op_.bytes() <= eager_bytes;
    if (!message->taken && !left) return;
  }
  finish();
  finished_ = true;
}

// What a rank has put in for this one.
const char* OpRun::part_of(int rank) const {
  if (auto* message = incoming_[static_cast<size_t>(rank)]) return message->data.data();
  if (rank != rank_) return nullptr;
  bool own_part_for_each = op_.kind == OpKind::reduce_scatter || op_.kind == OpKind::scatter;
  return own_part_for_each && in_ ? in_ + static_cast<size_t>(rank) * op_.bytes() : in_;
}

void OpRun::copy_parts(bool to_their_places) {
  for (int rank = 0; rank < ranks_; rank++) {
    const char* part = part_of(rank);
    if (part) memcpy(out_ + (to_their_places ? static_cast<size_t>(rank) * op_.bytes() : 0), part, op_.bytes());
  }
}

void OpRun::finish() {
  if (!out_) return;
  switch (op_.kind) {
    case OpKind::all_gather:
    case OpKind::gather:
      return copy_parts(true);
    case OpKind::broadcast:
    case OpKind::scatter:
    case OpKind::recv:
      return copy_parts(false);
    case OpKind::send:
      return;
    default:
      break;
  }
  std::vector<Operand> operands;
  for (int rank = 0; rank < ranks_; rank++) {
    auto* message = incoming_[static_cast<size_t>(rank)];
    operands.push_back({part_of(rank), message ? message->factor : op_.redop.factor});
  }
  reduce_elements(out_, operands, op_.count, op_.dtype, op_.redop.reduction);
}

}  // namespace nccl_emulator
