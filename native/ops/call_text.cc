#include "ops/call_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <vector>

#include "ops/dtype.h"
#include "ops/hash.h"
#include "ops/names.generated.h"

namespace c10d {

namespace {

constexpr const char* kAdvice =
    ". All ranks must call the same collectives in the same order, with the same dtypes, sizes, reduce ops and roots";

/// The shortest text that reads back as the same number, as JavaScript writes it.
std::string number_text(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  if (value == 0) return "0";
  if (value < 0) return "-" + number_text(-value);
  char text[32];
  const char* const end = std::to_chars(std::begin(text), std::end(text), value, std::chars_format::scientific).ptr;
  // E.g. 1.25e-07.
  const char* const e = std::find(std::cbegin(text), end, 'e');
  std::string digits(1, text[0]);
  if (e - text > 2) digits.append(text + 2, static_cast<size_t>(e - text - 2));
  const int count = static_cast<int>(digits.size());
  // Digits before the point.
  const int whole = std::atoi(std::string(e + 1, end).c_str()) + 1;
  if (whole > 21 || whole <= -6) {
    if (count > 1) digits.insert(1, ".");
    return digits + (whole > 0 ? "e+" : "e-") + std::to_string(std::abs(whole - 1));
  }
  if (whole <= 0) return "0." + std::string(static_cast<size_t>(-whole), '0') + digits;
  if (count <= whole) return digits + std::string(static_cast<size_t>(whole - count), '0');
  return digits.insert(static_cast<size_t>(whole), ".");
}

std::string reduction_text(const Call& call) {
  const char* const name = reduce_op_name(call.reduce_op);
  if (name == nullptr) return "unknown reduce op";
  return call.reduce_op == C10D_PREMUL_SUM ? std::string(name) + "(" + number_text(call.premul_factor) + ")" : name;
}

/// The buffers whose sizes are the same on all ranks.
const std::vector<c10d_buffer>& agreed_buffers(const Op& op) {
  switch (op.request.opcode) {
    case C10D_OP_ALLREDUCE:
    case C10D_OP_ALLREDUCE_COALESCED:
    case C10D_OP_BROADCAST:
    case C10D_OP_REDUCE:
    case C10D_OP_SCATTER:
      return op.outputs;
    default:
      return op.inputs;
  }
}

bool has_agreed_sizes(uint32_t opcode) {
  return opcode != C10D_OP_ALLTOALL && opcode != C10D_OP_ALLTOALL_BASE && opcode != C10D_OP_ALLREDUCE_SPARSE &&
         opcode != C10D_OP_BARRIER;
}

std::string tensor_text(uint32_t dtype, uint64_t bytes) {
  const DType type = dtype_of(dtype);
  if (type.size == 0 || bytes % type.size != 0) return std::to_string(bytes) + " bytes of " + type.name;
  return std::string(type.name) + "[" + std::to_string(bytes / type.size) + "]";
}

const char* name_of(const Call& call) {
  switch (call.opcode) {
    case C10D_SERVICE_OPEN_WINDOW:
      return "openWindow";
    case C10D_SERVICE_CLOSE_WINDOW:
      return "closeWindow";
    default:
      return collective_name(call.opcode, call.flags);
  }
}

std::string at(const Call& call) { return " as collective #" + std::to_string(call.number); }

}  // namespace

bool is_reduction(uint32_t opcode) {
  return opcode == C10D_OP_ALLREDUCE || opcode == C10D_OP_ALLREDUCE_COALESCED || opcode == C10D_OP_REDUCE ||
         opcode == C10D_OP_REDUCE_SCATTER || opcode == C10D_OP_REDUCE_SCATTER_BASE ||
         opcode == C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED;
}

bool is_rooted(uint32_t opcode) {
  return opcode == C10D_OP_BROADCAST || opcode == C10D_OP_REDUCE || opcode == C10D_OP_GATHER ||
         opcode == C10D_OP_SCATTER;
}

bool is_common_collective(uint32_t opcode) {
  switch (opcode) {
    case C10D_OP_BROADCAST:
    case C10D_OP_ALLREDUCE:
    case C10D_OP_ALLREDUCE_COALESCED:
    case C10D_OP_REDUCE:
    case C10D_OP_ALLGATHER:
    case C10D_OP_ALLGATHER_BASE:
    case C10D_OP_ALLGATHER_COALESCED:
    case C10D_OP_GATHER:
    case C10D_OP_SCATTER:
    case C10D_OP_REDUCE_SCATTER:
    case C10D_OP_REDUCE_SCATTER_BASE:
    case C10D_OP_ALLTOALL:
    case C10D_OP_ALLTOALL_BASE:
    case C10D_OP_BARRIER:
      return true;
    default:
      return false;
  }
}

Call call_of(const Op& op) {
  const c10d_op& request = op.request;
  Call call;
  call.number = op.number;
  call.opcode = request.opcode;
  call.flags = request.flags & C10D_FLAG_MONITORED;
  if (call.opcode == C10D_OP_BARRIER) return call;
  call.dtype = request.dtype;
  if (is_rooted(call.opcode)) call.root = request.peer;
  if (is_reduction(call.opcode)) {
    call.reduce_op = request.reduce_op;
    // -0 is the same as 0.
    if (call.reduce_op == C10D_PREMUL_SUM) call.premul_factor = request.premul_factor + 0.0;
  }
  if (!has_agreed_sizes(call.opcode)) return call;
  const size_t element = element_size(call.dtype);
  const auto& buffers = agreed_buffers(op);
  call.tensors = static_cast<uint32_t>(buffers.size());
  for (const auto& buffer : buffers) {
    const uint64_t elements = element == 0 ? buffer.bytes : buffer.bytes / element;
    call.elements += elements;
    if (buffers.size() > 1) call.sizes = mixed(call.sizes, elements);
  }
  return call;
}

bool agree(const Call& a, const Call& b) {
  return a.number == b.number && a.opcode == b.opcode && a.dtype == b.dtype && a.reduce_op == b.reduce_op &&
         a.root == b.root && a.flags == b.flags && a.tensors == b.tensors && a.elements == b.elements &&
         a.sizes == b.sizes && a.premul_factor == b.premul_factor;
}

std::string text_of(const Call& call) {
  std::string text = std::string(name_of(call)) + "(";
  if (call.opcode == C10D_OP_BARRIER) return text + ")";
  const std::string dtype = dtype_of(call.dtype).name;
  const std::string elements = std::to_string(call.elements);
  if (call.tensors == 0) {
    text += dtype;
  } else if (call.tensors == 1) {
    text += dtype + "[" + elements + "]";
  } else {
    text += std::to_string(call.tensors) + " tensors of " + dtype + ", " + elements + " elements";
  }
  if (is_reduction(call.opcode)) text += ", " + reduction_text(call);
  if (is_rooted(call.opcode)) text += ", root " + std::to_string(call.root);
  return text + ")";
}

std::string mismatch_text(int rank, const Call& call, int other_rank, const Call& other_call, bool apart) {
  if (rank > other_rank) return mismatch_text(other_rank, other_call, rank, call, apart);
  const std::string first = text_of(call);
  const std::string second = text_of(other_call);
  std::string text = "rank " + std::to_string(rank) + " called " + first + at(call) + ", rank " +
                     std::to_string(other_rank) + " called " + second;
  if (other_call.number != call.number && apart) {
    text += at(other_call);
  } else if (other_call.number != call.number) {
    // Calls are compared in their order, so the difference can only be calls that were refused.
    const bool first_is_ahead = call.number > other_call.number;
    const uint64_t more = first_is_ahead ? call.number - other_call.number : other_call.number - call.number;
    text += at(other_call) + ": rank " + std::to_string(first_is_ahead ? rank : other_rank) + " has refused " +
            std::to_string(more) + (more == 1 ? " call" : " calls") + " more than rank " +
            std::to_string(first_is_ahead ? other_rank : rank);
  } else if (first == second) {
    text += " with tensors of other sizes";
  }
  return text + kAdvice;
}

std::string split_mismatch_text(const Call& call, int sender, uint64_t sent_bytes, int receiver,
                                uint64_t expected_bytes) {
  const std::string from = "rank " + std::to_string(sender);
  const std::string to = "rank " + std::to_string(receiver);
  const std::string text = text_of(call);
  return (sender < receiver ? from : to) + " called " + text + at(call) + ", " + (sender < receiver ? to : from) +
         " called " + text + ", but " + from + " sends " + tensor_text(call.dtype, sent_bytes) + " to " + to +
         ", which expects " + tensor_text(call.dtype, expected_bytes);
}

std::string message_mismatch_text(uint32_t tag, int sender, uint32_t sent_dtype, uint64_t sent_bytes, int receiver,
                                  uint32_t expected_dtype, uint64_t expected_bytes) {
  return "rank " + std::to_string(sender) + " sent " + tensor_text(sent_dtype, sent_bytes) + " with tag " +
         std::to_string(tag) + ", rank " + std::to_string(receiver) + " was to receive " +
         tensor_text(expected_dtype, expected_bytes);
}

}  // namespace c10d
