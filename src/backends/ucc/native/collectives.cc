#include "collectives.h"

#include <algorithm>
#include <cstring>

#include "op_check.h"
#include "ops/signature.h"
#include "reduction/reduction.h"

namespace c10d::ucc_shim {

namespace {

/// The largest buffer that an op keeps for the next one.
constexpr size_t kKeptBytes = 1 << 20;

constexpr uint64_t kWideVectors = UCC_COLL_ARGS_FLAG_COUNT_64BIT | UCC_COLL_ARGS_FLAG_DISPLACEMENTS_64BIT;

/// The header of a message.
struct MessageHeader {
  uint64_t bytes;
  uint32_t dtype;
  uint32_t reserved;
};
/// A message of up to this many bytes is sent together with its header; a larger one follows it.
constexpr size_t kWithHeader = 4096 - sizeof(MessageHeader);
/// Data that follows a header has a tag of its own, or it would be received in place of the next header.
constexpr uint32_t kRestTag = 1U << 14;

void* pointer(uint64_t address) { return reinterpret_cast<void*>(address); }

}  // namespace

void Running::begin(Op& op) {
  op_ = &op;
  stage_ = Stage::whole;
  post();
}

void Running::begin_comparison(Op& op) {
  op_ = &op;
  stage_ = Stage::comparison;
  agreement_.begin(op);
}

bool Running::resume() {
  if (!agreement_.decide(*op_)) return false;
  if (agreement_.carries_data()) {
    agreement_.finish(*op_);
    return true;
  }
  begin(*op_);
  return false;
}

ucc_status_t Running::test() const {
  if (stage_ == Stage::comparison) return agreement_.test();
  ucc_status_t all = UCC_OK;
  for (const Request& request : requests_) {
    const ucc_status_t status = request.test();
    if (status < 0) return status;
    if (status != UCC_OK) all = UCC_INPROGRESS;
  }
  return all;
}

void Running::release() {
  while (!requests_.empty()) {
    requests_.back().release();
    requests_.pop_back();
  }
}

void Running::end() {
  release();
  vectors_.clear();
  if (flat_.capacity() > kKeptBytes) flat_ = {};
  // Data that arrived with the comparison was reduced there.
  if (stage_ == Stage::comparison || !divides_after_sum()) return;
  const size_t element_bytes = type().bytes;
  for (const auto& buffer : op_->outputs) {
    divide(pointer(buffer.address), buffer.bytes / element_bytes, op_->request.dtype, world_size_);
  }
}

void Running::post() {
  switch (op_->request.opcode) {
    case C10D_OP_ALLREDUCE:
    case C10D_OP_ALLREDUCE_COALESCED:
      for (const auto& buffer : op_->outputs) all_reduce(buffer);
      return;
    case C10D_OP_BROADCAST:
      return broadcast();
    case C10D_OP_REDUCE:
      return reduce();
    case C10D_OP_ALLGATHER:
      return all_gather_list();
    case C10D_OP_ALLGATHER_BASE:
    case C10D_OP_ALLGATHER_COALESCED:
      for (size_t i = 0; i < op_->inputs.size(); i++) all_gather(op_->inputs[i], op_->outputs[i]);
      return;
    case C10D_OP_GATHER:
      return gather();
    case C10D_OP_SCATTER:
      return scatter();
    case C10D_OP_REDUCE_SCATTER:
      return reduce_scatter_list();
    case C10D_OP_REDUCE_SCATTER_BASE:
    case C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED:
      for (size_t i = 0; i < op_->inputs.size(); i++) reduce_scatter(op_->inputs[i], op_->outputs[i]);
      return;
    case C10D_OP_ALLTOALL:
    case C10D_OP_ALLTOALL_BASE:
      return all_to_all();
    case C10D_OP_SEND:
      return send();
    case C10D_OP_RECV:
      return recv();
    case C10D_OP_BARRIER:
      return barrier();
    default:
      throw Failure(C10D_ERR_UNSUPPORTED, "UCC has no such op");
  }
}

void Running::post(ucc_coll_args_t& args) { requests_.emplace_back(team_, args); }

ucc_coll_buffer_info_t Running::bytes_of(const c10d_buffer& buffer) const {
  return bytes_at(pointer(buffer.address), buffer.bytes);
}

/// The type for the reduction. One rank alone only copies, for which UCC does not accept user-defined types.
ElementType Running::type() const {
  if (world_size_ == 1) return {UCC_DT_UINT8, 1};
  return element_type(op_->request.dtype, op_->request.reduce_op);
}

ucc_coll_buffer_info_t Running::elements_of(const c10d_buffer& buffer) const {
  const auto type = this->type();
  return {pointer(buffer.address), buffer.bytes / type.bytes, type.datatype, UCC_MEMORY_TYPE_HOST};
}

/// Buffers anywhere in memory as one vector: bytes at displacements from the lowest address.
ucc_coll_buffer_info_v_t Running::bytes_of(const std::vector<c10d_buffer>& buffers) {
  auto vector = std::make_unique<Vector>();
  uint64_t base = UINT64_MAX;
  for (const auto& buffer : buffers) {
    if (buffer.bytes > 0) base = std::min(base, buffer.address);
  }
  for (const auto& buffer : buffers) {
    vector->counts.push_back(buffer.bytes);
    vector->displacements.push_back(buffer.bytes > 0 ? buffer.address - base : 0);
  }
  const ucc_coll_buffer_info_v_t info{base == UINT64_MAX ? nullptr : pointer(base), vector->counts.data(),
                                      vector->displacements.data(), UCC_DT_UINT8, UCC_MEMORY_TYPE_HOST};
  vectors_.push_back(std::move(vector));
  return info;
}

void Running::all_reduce(const c10d_buffer& data) {
  ucc_coll_args_t args{};
  args.coll_type = UCC_COLL_TYPE_ALLREDUCE;
  args.flags = UCC_COLL_ARGS_FLAG_IN_PLACE;
  args.src.info = args.dst.info = elements_of(data);
  args.op = reduction_of_op();
  post(args);
}

void Running::broadcast() {
  ucc_coll_args_t args{};
  args.coll_type = UCC_COLL_TYPE_BCAST;
  args.src.info = bytes_of(op_->outputs[0]);
  args.root = static_cast<uint64_t>(op_->request.peer);
  post(args);
}

void Running::reduce() {
  ucc_coll_args_t args{};
  args.coll_type = UCC_COLL_TYPE_REDUCE;
  if (at_root()) args.flags = UCC_COLL_ARGS_FLAG_IN_PLACE;
  args.src.info = args.dst.info = elements_of(op_->outputs[0]);
  args.op = reduction_of_op();
  args.root = static_cast<uint64_t>(op_->request.peer);
  post(args);
}

void Running::all_gather(const c10d_buffer& input, const c10d_buffer& output) {
  ucc_coll_args_t args{};
  args.coll_type = UCC_COLL_TYPE_ALLGATHER;
  args.src.info = bytes_of(input);
  args.dst.info = bytes_of(output);
  post(args);
}

void Running::all_gather_list() {
  ucc_coll_args_t args{};
  args.coll_type = UCC_COLL_TYPE_ALLGATHERV;
  args.flags = kWideVectors;
  args.src.info = bytes_of(op_->inputs[0]);
  args.dst.info_v = bytes_of(op_->outputs);
  post(args);
}

void Running::gather() {
  ucc_coll_args_t args{};
  args.coll_type = UCC_COLL_TYPE_GATHERV;
  args.flags = kWideVectors;
  args.src.info = bytes_of(op_->inputs[0]);
  if (at_root()) args.dst.info_v = bytes_of(op_->outputs);
  args.root = static_cast<uint64_t>(op_->request.peer);
  post(args);
}

void Running::scatter() {
  ucc_coll_args_t args{};
  args.coll_type = UCC_COLL_TYPE_SCATTERV;
  args.flags = kWideVectors;
  if (at_root()) args.src.info_v = bytes_of(op_->inputs);
  args.dst.info = bytes_of(op_->outputs[0]);
  args.root = static_cast<uint64_t>(op_->request.peer);
  post(args);
}

/// UCC's reduce-scatter does not average, nor do types with a user-defined reduction.
bool Running::divides_after_sum() const {
  if (op_->request.reduce_op != C10D_AVG || !is_reduction(op_->request.opcode) || world_size_ == 1) return false;
  return scatters_reduced(op_->request.opcode) || !averages(op_->request.dtype);
}

ucc_reduction_op_t Running::reduction_of_op() const {
  return reduction(op_->request.dtype, divides_after_sum() ? uint32_t{C10D_SUM} : op_->request.reduce_op);
}

void Running::reduce_scatter(const c10d_buffer& input, const c10d_buffer& output) {
  ucc_coll_args_t args{};
  args.coll_type = UCC_COLL_TYPE_REDUCE_SCATTER;
  args.src.info = elements_of(input);
  args.dst.info = elements_of(output);
  args.op = reduction_of_op();
  post(args);
}

/// UCC requires the input in one buffer.
void Running::reduce_scatter_list() {
  const size_t element_bytes = type().bytes;
  auto vector = std::make_unique<Vector>();
  uint64_t bytes = 0;
  for (const auto& buffer : op_->inputs) {
    vector->counts.push_back(buffer.bytes / element_bytes);
    vector->displacements.push_back(bytes / element_bytes);
    bytes += buffer.bytes;
  }
  if (bytes == 0) return;
  flat_.resize(bytes);
  char* at = flat_.data();
  for (const auto& buffer : op_->inputs) {
    if (buffer.bytes > 0) std::memcpy(at, pointer(buffer.address), buffer.bytes);
    at += buffer.bytes;
  }
  ucc_coll_args_t args{};
  args.coll_type = UCC_COLL_TYPE_REDUCE_SCATTERV;
  args.flags = kWideVectors;
  args.src.info = elements_of({reinterpret_cast<uint64_t>(flat_.data()), bytes});
  args.dst.info_v = {op_->output(), vector->counts.data(), vector->displacements.data(), args.src.info.datatype,
                     UCC_MEMORY_TYPE_HOST};
  args.op = reduction_of_op();
  vectors_.push_back(std::move(vector));
  post(args);
}

std::vector<c10d_buffer> Running::parts_of(const c10d_buffer& whole, const std::vector<uint64_t>& splits) const {
  const size_t element_bytes = element_size(op_->request.dtype);
  std::vector<c10d_buffer> parts;
  uint64_t at = whole.address;
  for (const uint64_t split : splits) {
    parts.push_back({at, split * element_bytes});
    at += split * element_bytes;
  }
  return parts;
}

void Running::all_to_all() {
  ucc_coll_args_t args{};
  const bool list = op_->request.opcode == C10D_OP_ALLTOALL;
  if (!list && op_->input_splits.empty() && op_->output_splits.empty()) {
    args.coll_type = UCC_COLL_TYPE_ALLTOALL;
    args.src.info = bytes_of(op_->inputs[0]);
    args.dst.info = bytes_of(op_->outputs[0]);
    return post(args);
  }
  args.coll_type = UCC_COLL_TYPE_ALLTOALLV;
  args.flags = kWideVectors;
  args.src.info_v = bytes_of(list ? op_->inputs : parts_of(op_->inputs[0], op_->input_splits));
  args.dst.info_v = bytes_of(list ? op_->outputs : parts_of(op_->outputs[0], op_->output_splits));
  post(args);
}

void Running::send() {
  const c10d_buffer& data = op_->inputs[0];
  const bool whole = data.bytes <= kWithHeader;
  const MessageHeader header{data.bytes, op_->request.dtype, 0};
  flat_.resize(sizeof header + (whole ? data.bytes : 0));
  std::memcpy(flat_.data(), &header, sizeof header);
  if (whole && data.bytes > 0) std::memcpy(flat_.data() + sizeof header, pointer(data.address), data.bytes);
  message(flat_.data(), flat_.size(), op_->request.tag);
  if (!whole) message(pointer(data.address), data.bytes, op_->request.tag | kRestTag);
}

void Running::recv() {
  flat_.resize(sizeof(MessageHeader) + kWithHeader);
  stage_ = Stage::header;
  message(flat_.data(), flat_.size(), op_->request.tag);
}

bool Running::same_channel(const Running& other) const {
  const c10d_op& a = op_->request;
  const c10d_op& b = other.op_->request;
  return a.peer == b.peer && a.tag == b.tag;
}

bool Running::take_header() {
  stage_ = Stage::whole;
  release();
  const c10d_buffer& data = op_->outputs[0];
  MessageHeader header{};
  std::memcpy(&header, flat_.data(), sizeof header);
  if (header.bytes != data.bytes || header.dtype != op_->request.dtype) {
    throw desync(C10D_MISMATCH_MESSAGE, rank_, op_->request.peer,
                 message_mismatch_text(op_->request.tag, op_->request.peer, header.dtype, header.bytes, rank_,
                                       op_->request.dtype, data.bytes));
  }
  if (data.bytes > kWithHeader) {
    message(pointer(data.address), data.bytes, op_->request.tag | kRestTag);
    return true;
  }
  if (data.bytes > 0) std::memcpy(pointer(data.address), flat_.data() + sizeof header, data.bytes);
  return false;
}

/// A broadcast between the two ranks. UCC accepts a message that is shorter than expected without reporting it.
void Running::message(const void* data, size_t bytes, uint32_t tag) {
  const bool sends = op_->request.opcode == C10D_OP_SEND;
  const int from = sends ? rank_ : op_->request.peer;
  const int to = sends ? op_->request.peer : rank_;
  ucc_coll_args_t args{};
  args.coll_type = UCC_COLL_TYPE_BCAST;
  args.mask = UCC_COLL_ARGS_FIELD_ACTIVE_SET | UCC_COLL_ARGS_FIELD_TAG;
  args.src.info = bytes_of(c10d_buffer{reinterpret_cast<uint64_t>(data), bytes});
  args.root = static_cast<uint64_t>(from);
  args.tag = static_cast<ucc_coll_id_t>(tag);
  args.active_set.start = static_cast<uint64_t>(from);
  args.active_set.stride = to - from;
  args.active_set.size = 2;
  op_->source = from;
  post(args);
}

void Running::barrier() {
  ucc_coll_args_t args{};
  args.coll_type = UCC_COLL_TYPE_BARRIER;
  post(args);
}

}  // namespace c10d::ucc_shim
