#include "collectives.h"

#include <gloo/allgather.h>
#include <gloo/allgatherv.h>
#include <gloo/allreduce.h>
#include <gloo/alltoall.h>
#include <gloo/alltoallv.h>
#include <gloo/barrier.h>
#include <gloo/broadcast.h>
#include <gloo/gather.h>
#include <gloo/reduce.h>
#include <gloo/scatter.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>

#include "monitored_barrier.h"

namespace c10d::gloo_shim {

namespace {

/// Lists of buffers pass through one flat buffer; its contents are not initialized.
class Flat {
 public:
  explicit Flat(size_t bytes) : data_(new uint8_t[std::max<size_t>(bytes, 1)]) {}
  uint8_t* data() const { return data_.get(); }

  void gather_from(const std::vector<c10d_buffer>& buffers) const {
    uint8_t* at = data();
    for (const auto& buffer : buffers) {
      if (buffer.bytes > 0) std::memcpy(at, reinterpret_cast<const void*>(buffer.address), buffer.bytes);
      at += buffer.bytes;
    }
  }
  void scatter_to(const std::vector<c10d_buffer>& buffers) const {
    const uint8_t* at = data();
    for (const auto& buffer : buffers) {
      if (buffer.bytes > 0) std::memcpy(reinterpret_cast<void*>(buffer.address), at, buffer.bytes);
      at += buffer.bytes;
    }
  }

 private:
  std::unique_ptr<uint8_t[]> data_;
};

size_t total_bytes(const std::vector<c10d_buffer>& buffers) {
  return std::accumulate(buffers.begin(), buffers.end(), size_t{0},
                         [](size_t sum, const c10d_buffer& buffer) { return sum + buffer.bytes; });
}

struct Sixteen {
  uint64_t half[2];
};

/// Gloo looks at the size of its element type only, and at the function that it is given.
template <class Body>
void with_elements(uint32_t dtype, void* data, size_t bytes, Body body) {
  switch (element_size(dtype)) {
    case 1:
      return body(static_cast<uint8_t*>(data), bytes);
    case 2:
      return body(static_cast<uint16_t*>(data), bytes / 2);
    case 4:
      return body(static_cast<uint32_t*>(data), bytes / 4);
    case 8:
      return body(static_cast<uint64_t*>(data), bytes / 8);
    default:
      return body(static_cast<Sixteen*>(data), bytes / sizeof(Sixteen));
  }
}

/// A sparse all-reduce comes in two ops: what each rank has, and then the entries themselves.
bool is_second_half(const Op& op) { return op.request.opcode == C10D_OP_ALLREDUCE_SPARSE && op.inputs.size() == 2; }

uint64_t entries(const Op& op) { return std::accumulate(op.input_splits.begin(), op.input_splits.end(), uint64_t{0}); }

uint8_t* bytes_at(uint64_t address) { return reinterpret_cast<uint8_t*>(address); }

/// One collective under way; the members are what all of them share.
class Collective {
 public:
  Collective(const Op& op, const Meshes& meshes) : op_(op), meshes_(meshes) {}

  void run() {
    switch (op_.request.opcode) {
      case C10D_OP_BROADCAST:
        return broadcast();
      case C10D_OP_ALLREDUCE:
        return all_reduce(op_.output(), op_.outputs[0].bytes, 0);
      case C10D_OP_ALLREDUCE_COALESCED:
        return all_reduce_list();
      case C10D_OP_REDUCE:
        return reduce();
      case C10D_OP_ALLGATHER:
        return all_gather_list();
      case C10D_OP_ALLGATHER_BASE:
        return all_gather(op_.inputs[0], op_.output(), op_.outputs[0].bytes);
      case C10D_OP_ALLGATHER_COALESCED:
        return all_gather_pairs();
      case C10D_OP_ALLREDUCE_SPARSE:
        return is_second_half(op_) ? all_gather_sparse()
                                   : all_gather(op_.inputs[0], op_.output(), op_.outputs[0].bytes);
      case C10D_OP_GATHER:
        return gather();
      case C10D_OP_SCATTER:
        return scatter();
      case C10D_OP_REDUCE_SCATTER:
        return reduce_scatter_list();
      case C10D_OP_REDUCE_SCATTER_BASE:
        return reduce_scatter();
      case C10D_OP_ALLTOALL:
        return all_to_all_list();
      case C10D_OP_ALLTOALL_BASE:
        return all_to_all();
      default:
        return barrier();
    }
  }

 private:
  uint32_t tag(uint32_t offset = 0) const { return static_cast<uint32_t>(op_.ticket) + offset; }
  uint32_t dtype() const { return op_.request.dtype; }
  const std::shared_ptr<Mesh>& mesh(uint32_t tag_offset = 0) const { return meshes_.of(tag(tag_offset)); }
  int root() const { return op_.request.peer; }
  bool at_root() const { return meshes_.rank() == root(); }

  void finish_average(void* data, size_t bytes) const {
    if (op_.request.reduce_op == C10D_AVG) divide(data, bytes / element_size(dtype()), dtype(), meshes_.size());
  }

  void all_reduce(void* data, size_t bytes, uint32_t tag_offset) {
    gloo::AllreduceOptions options(mesh(tag_offset));
    with_elements(dtype(), data, bytes, [&](auto* elements, size_t n) { options.setOutput(elements, n); });
    options.setReduceFunction(find_reduction(dtype(), op_.request.reduce_op));
    options.setTag(tag(tag_offset));
    gloo::allreduce(options);
    finish_average(data, bytes);
  }

  /// One all-reduce of the concatenation.
  void all_reduce_list() {
    const size_t bytes = total_bytes(op_.outputs);
    const Flat flat(bytes);
    flat.gather_from(op_.outputs);
    all_reduce(flat.data(), bytes, 0);
    flat.scatter_to(op_.outputs);
  }

  void broadcast() {
    gloo::BroadcastOptions options(mesh());
    options.setOutput(bytes_at(op_.outputs[0].address), op_.outputs[0].bytes);
    options.setRoot(root());
    options.setTag(tag());
    gloo::broadcast(options);
  }

  void barrier() {
    if ((op_.request.flags & C10D_FLAG_MONITORED) != 0) return monitored_barrier(op_, meshes_);
    gloo::BarrierOptions options(mesh());
    options.setTag(tag());
    gloo::barrier(options);
  }

  void reduce() {
    gloo::ReduceOptions options(mesh());
    with_elements(dtype(), op_.output(), op_.outputs[0].bytes,
                  [&](auto* elements, size_t n) { options.setOutput(elements, n); });
    options.setReduceFunction(find_reduction(dtype(), op_.request.reduce_op));
    options.setRoot(root());
    options.setTag(tag());
    gloo::reduce(options);
    if (at_root()) finish_average(op_.output(), op_.outputs[0].bytes);
  }

  void all_gather(const c10d_buffer& input, void* output, size_t bytes) {
    // Debian 12's Gloo divides by the size of the input.
    if (bytes == 0) return;
    gloo::AllgatherOptions options(mesh());
    options.setInput(bytes_at(input.address), input.bytes);
    options.setOutput(static_cast<uint8_t*>(output), bytes);
    options.setTag(tag());
    gloo::allgather(options);
  }

  void all_gather_list() {
    const size_t bytes = total_bytes(op_.outputs);
    const Flat flat(bytes);
    all_gather(op_.inputs[0], flat.data(), bytes);
    flat.scatter_to(op_.outputs);
  }

  /// One all-gather of the concatenated inputs.
  void all_gather_pairs() {
    const size_t bytes = total_bytes(op_.inputs);
    const size_t n = static_cast<size_t>(meshes_.size());
    const Flat input(bytes);
    const Flat all(bytes * n);
    input.gather_from(op_.inputs);
    all_gather({reinterpret_cast<uint64_t>(input.data()), bytes}, all.data(), bytes * n);
    size_t offset = 0;
    for (size_t i = 0; i < op_.inputs.size(); i++) {
      const size_t part = op_.inputs[i].bytes;
      for (size_t rank = 0; part > 0 && rank < n; rank++) {
        std::memcpy(bytes_at(op_.outputs[i].address) + rank * part, all.data() + rank * bytes + offset, part);
      }
      offset += part;
    }
  }

  /// Indices, then values, of as many entries per rank as the splits say; on the tag of the first half.
  void all_gather_sparse() {
    const uint64_t total = entries(op_);
    for (size_t i = 0; i < op_.inputs.size(); i++) {
      const size_t entry_bytes = op_.outputs[i].bytes / total;
      std::vector<size_t> counts;
      for (const uint64_t entries_of_rank : op_.input_splits) counts.push_back(entries_of_rank * entry_bytes);
      gloo::AllgathervOptions options(mesh());
      options.setInput(bytes_at(op_.inputs[i].address), op_.inputs[i].bytes);
      options.setOutput(bytes_at(op_.outputs[i].address), counts);
      options.setTag(tag());
      gloo::allgatherv(options);
    }
  }

  void gather() {
    gloo::GatherOptions options(mesh());
    const Flat flat(at_root() ? total_bytes(op_.outputs) : 0);
    options.setInput(bytes_at(op_.inputs[0].address), op_.inputs[0].bytes);
    if (at_root()) options.setOutput(flat.data(), total_bytes(op_.outputs));
    options.setRoot(root());
    options.setTag(tag());
    gloo::gather(options);
    if (at_root()) flat.scatter_to(op_.outputs);
  }

  void scatter() {
    gloo::ScatterOptions options(mesh());
    if (at_root()) {
      std::vector<uint8_t*> inputs;
      for (const auto& buffer : op_.inputs) inputs.push_back(bytes_at(buffer.address));
      options.setInputs(inputs, op_.outputs[0].bytes);
    }
    options.setOutput(bytes_at(op_.outputs[0].address), op_.outputs[0].bytes);
    options.setRoot(root());
    options.setTag(tag());
    gloo::scatter(options);
  }

  /// An all-reduce of the whole input, of which each rank keeps its part.
  void reduce_scatter() {
    const size_t bytes = op_.inputs[0].bytes;
    const Flat flat(bytes);
    flat.gather_from(op_.inputs);
    all_reduce(flat.data(), bytes, 0);
    const size_t part = op_.outputs[0].bytes;
    if (part > 0) std::memcpy(op_.output(), flat.data() + part * static_cast<size_t>(meshes_.rank()), part);
  }

  void reduce_scatter_list() {
    for (size_t i = 0; i < op_.inputs.size(); i++) {
      const size_t bytes = op_.inputs[i].bytes;
      const Flat flat(bytes);
      flat.gather_from({op_.inputs[i]});
      all_reduce(flat.data(), bytes, static_cast<uint32_t>(i));
      if (static_cast<int>(i) == meshes_.rank()) flat.scatter_to(op_.outputs);
    }
  }

  void all_to_all() {
    const auto& input = op_.inputs[0];
    const auto& output = op_.outputs[0];
    if (op_.input_splits.empty() && op_.output_splits.empty()) {
      gloo::AlltoallOptions options(mesh());
      options.setInput(bytes_at(input.address), input.bytes);
      options.setOutput(bytes_at(output.address), output.bytes);
      options.setTag(tag());
      return gloo::alltoall(options);
    }
    const size_t size = element_size(dtype());
    all_to_all_v(bytes_at(input.address), in_bytes(op_.input_splits, size), bytes_at(output.address),
                 in_bytes(op_.output_splits, size));
  }

  void all_to_all_list() {
    const Flat input(total_bytes(op_.inputs));
    const Flat output(total_bytes(op_.outputs));
    input.gather_from(op_.inputs);
    all_to_all_v(input.data(), lengths(op_.inputs), output.data(), lengths(op_.outputs));
    output.scatter_to(op_.outputs);
  }

  void all_to_all_v(uint8_t* input, std::vector<int64_t> input_bytes, uint8_t* output,
                    std::vector<int64_t> output_bytes) {
    gloo::AlltoallvOptions options(mesh());
    options.setInput(input, std::move(input_bytes));
    options.setOutput(output, std::move(output_bytes));
    options.setTag(tag());
    gloo::alltoallv(options);
  }

  static std::vector<int64_t> in_bytes(const std::vector<uint64_t>& splits, size_t size) {
    std::vector<int64_t> bytes;
    for (const uint64_t split : splits) bytes.push_back(static_cast<int64_t>(split * size));
    return bytes;
  }
  static std::vector<int64_t> lengths(const std::vector<c10d_buffer>& buffers) {
    std::vector<int64_t> bytes;
    for (const auto& buffer : buffers) bytes.push_back(static_cast<int64_t>(buffer.bytes));
    return bytes;
  }

  const Op& op_;
  const Meshes& meshes_;
};

[[noreturn]] void refuse(const std::string& why) { throw Failure(C10D_ERR_INVALID, why); }

void require(bool holds, const char* otherwise) {
  if (!holds) refuse(otherwise);
}

/// What must hold for the numbers and sizes of the buffers, so that no rank sends or expects the wrong number of bytes.
void check_buffers(const Op& op, int rank, size_t n) {
  const auto& in = op.inputs;
  const auto& out = op.outputs;
  const bool at_root = op.request.peer == rank;
  const auto all_like = [](const std::vector<c10d_buffer>& buffers, uint64_t bytes) {
    return std::all_of(buffers.begin(), buffers.end(), [&](const auto& buffer) { return buffer.bytes == bytes; });
  };
  switch (op.request.opcode) {
    case C10D_OP_BROADCAST:
    case C10D_OP_ALLREDUCE:
    case C10D_OP_REDUCE:
      return require(out.size() == 1, "takes one buffer");
    case C10D_OP_ALLREDUCE_COALESCED:
      return require(!out.empty(), "takes at least one buffer");
    case C10D_OP_ALLGATHER:
      require(in.size() == 1 && out.size() == n, "takes one input and an output per rank");
      return require(all_like(out, in[0].bytes), "outputs must have the size of the input");
    case C10D_OP_ALLGATHER_BASE:
      require(in.size() == 1 && out.size() == 1, "takes one input and one output");
      return require(out[0].bytes == in[0].bytes * n, "output must be world size times the input");
    case C10D_OP_ALLGATHER_COALESCED:
      require(!in.empty() && in.size() == out.size(), "takes as many outputs as inputs");
      for (size_t i = 0; i < in.size(); i++) {
        require(out[i].bytes == in[i].bytes * n, "outputs must be world size times their input");
      }
      return;
    case C10D_OP_ALLREDUCE_SPARSE: {
      if (!is_second_half(op)) {
        require(in.size() == 1 && out.size() == 1, "takes one input and one output");
        return require(out[0].bytes == in[0].bytes * n, "output must be world size times the input");
      }
      const uint64_t total = entries(op);
      require(out.size() == 2 && op.input_splits.size() == n && total > 0, "takes the number of entries of each rank");
      for (size_t i = 0; i < in.size(); i++) {
        require(out[i].bytes % total == 0 &&
                    in[i].bytes == out[i].bytes / total * op.input_splits[static_cast<size_t>(rank)],
                "buffers must have the size of their entries");
      }
      return;
    }
    case C10D_OP_GATHER:
      require(in.size() == 1 && out.size() == (at_root ? n : 0), "takes one input, and at the root an output per rank");
      return require(all_like(out, in[0].bytes), "outputs must have the size of the input");
    case C10D_OP_SCATTER:
      require(out.size() == 1 && in.size() == (at_root ? n : 0), "takes one output, and at the root an input per rank");
      return require(all_like(in, out[0].bytes), "inputs must have the size of the output");
    case C10D_OP_REDUCE_SCATTER:
      require(out.size() == 1 && in.size() == n, "takes one output and an input per rank");
      return require(in[static_cast<size_t>(rank)].bytes == out[0].bytes, "output must have the size of its input");
    case C10D_OP_REDUCE_SCATTER_BASE:
      require(in.size() == 1 && out.size() == 1, "takes one input and one output");
      return require(in[0].bytes == out[0].bytes * n, "input must be world size times the output");
    case C10D_OP_ALLTOALL:
      return require(in.size() == n && out.size() == n, "takes an input and an output per rank");
    case C10D_OP_ALLTOALL_BASE: {
      require(in.size() == 1 && out.size() == 1, "takes one input and one output");
      const size_t size = element_size(op.request.dtype);
      const auto fits = [&](const std::vector<uint64_t>& splits, uint64_t bytes) {
        return splits.size() == n && std::accumulate(splits.begin(), splits.end(), uint64_t{0}) * size == bytes;
      };
      if (op.input_splits.empty() && op.output_splits.empty()) {
        return require(in[0].bytes == out[0].bytes && in[0].bytes % (n * size) == 0,
                       "input and output must have the same size, divisible by the world size");
      }
      return require(fits(op.input_splits, in[0].bytes) && fits(op.output_splits, out[0].bytes),
                     "splits must be one per rank and add up to the buffer");
    }
    default:
      return;
  }
}

bool reduces(uint32_t opcode) {
  switch (opcode) {
    case C10D_OP_ALLREDUCE:
    case C10D_OP_ALLREDUCE_COALESCED:
    case C10D_OP_REDUCE:
    case C10D_OP_REDUCE_SCATTER:
    case C10D_OP_REDUCE_SCATTER_BASE:
      return true;
    default:
      return false;
  }
}

bool has_root(uint32_t opcode) {
  return opcode == C10D_OP_BROADCAST || opcode == C10D_OP_REDUCE || opcode == C10D_OP_GATHER ||
         opcode == C10D_OP_SCATTER;
}

bool is_collective(uint32_t opcode) {
  return reduces(opcode) || has_root(opcode) || opcode == C10D_OP_ALLGATHER || opcode == C10D_OP_ALLGATHER_BASE ||
         opcode == C10D_OP_ALLGATHER_COALESCED || opcode == C10D_OP_ALLREDUCE_SPARSE || opcode == C10D_OP_ALLTOALL ||
         opcode == C10D_OP_ALLTOALL_BASE || opcode == C10D_OP_BARRIER;
}

}  // namespace

void check_collective(const Op& op, int rank, int world_size) {
  const auto& request = op.request;
  if (!is_collective(request.opcode)) throw Failure(C10D_ERR_UNSUPPORTED, "gloo does not implement this op");
  if (request.opcode == C10D_OP_BARRIER) return;
  const size_t size = element_size(request.dtype);
  if (size == 0) throw Failure(C10D_ERR_UNSUPPORTED, "unknown dtype");
  if (reduces(request.opcode) &&
      (request.reduce_op == C10D_PREMUL_SUM || find_reduction(request.dtype, request.reduce_op) == nullptr)) {
    throw Failure(C10D_ERR_UNSUPPORTED, "gloo has no such reduction for this dtype");
  }
  if (has_root(request.opcode)) require(request.peer >= 0 && request.peer < world_size, "no such root");
  for (const auto* buffers : {&op.inputs, &op.outputs}) {
    for (const auto& buffer : *buffers) require(buffer.bytes % size == 0, "buffer is no whole number of elements");
  }
  check_buffers(op, rank, static_cast<size_t>(world_size));
}

uint32_t tags_of(const Op& op) {
  if (is_second_half(op)) return 0;
  if (op.request.opcode == C10D_OP_REDUCE_SCATTER) return static_cast<uint32_t>(op.inputs.size());
  return (op.request.flags & C10D_FLAG_MONITORED) != 0 ? 2 : 1;
}

void run_collective(const Op& op, const Meshes& meshes) { Collective(op, meshes).run(); }

}  // namespace c10d::gloo_shim
