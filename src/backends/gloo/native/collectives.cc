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

#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "collective_check.h"
#include "mesh/flat.h"
#include "monitored_barrier.h"
#include "reduction/reduction.h"

namespace c10d::gloo_shim {

namespace {

/// What is reduced: PyTorch treats a complex number as two floats, and Gloo splits between any two elements.
uint32_t component_of(uint32_t dtype) {
  switch (dtype) {
    case C10D_COMPLEX64:
      return C10D_FLOAT32;
    case C10D_COMPLEX128:
      return C10D_FLOAT64;
    default:
      return dtype;
  }
}

/// Of the element type Gloo uses only the size, beside the function that it gets.
template <class Options>
void set_reduction(Options& options, const Op& op, void* data, size_t bytes) {
  const uint32_t dtype = component_of(op.request.dtype);
  options.setReduceFunction(find_reduction(dtype, op.request.reduce_op));
  switch (element_size(dtype)) {
    case 1:
      return options.setOutput(static_cast<uint8_t*>(data), bytes);
    case 2:
      return options.setOutput(static_cast<uint16_t*>(data), bytes / 2);
    case 4:
      return options.setOutput(static_cast<uint32_t*>(data), bytes / 4);
    default:
      return options.setOutput(static_cast<uint64_t*>(data), bytes / 8);
  }
}

uint8_t* bytes_at(uint64_t address) { return reinterpret_cast<uint8_t*>(address); }

/// One collective in flight; the members are what all of them share.
class Collective {
 public:
  Collective(const Op& op, const GlooContexts& contexts) : op_(op), contexts_(contexts) {}

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
      case C10D_OP_BARRIER:
        return barrier();
      default:
        throw Failure(C10D_ERR_UNSUPPORTED, "gloo does not implement this op");
    }
  }

 private:
  uint32_t tag(uint32_t offset = 0) const { return static_cast<uint32_t>(op_.ticket) + offset; }
  uint32_t dtype() const { return op_.request.dtype; }
  const std::shared_ptr<GlooContext>& context(uint32_t tag_offset = 0) const { return contexts_.of(tag(tag_offset)); }
  int root() const { return op_.request.peer; }
  bool at_root() const { return contexts_.rank() == root(); }

  void finish_reduction(void* data, size_t bytes) const {
    const size_t count = bytes / element_size(dtype());
    if (op_.request.reduce_op == C10D_AVG) divide(data, count, dtype(), contexts_.size());
    // PyTorch adds the bytes of bools, so that true plus true is 2 there.
    if (dtype() == C10D_BOOL) find_reduction(C10D_BOOL, C10D_BOR)(data, data, data, count);
  }

  void all_reduce(void* data, size_t bytes, uint32_t tag_offset) {
    gloo::AllreduceOptions options(context(tag_offset));
    set_reduction(options, op_, data, bytes);
    options.setTag(tag(tag_offset));
    gloo::allreduce(options);
    finish_reduction(data, bytes);
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
    gloo::BroadcastOptions options(context());
    options.setOutput(bytes_at(op_.outputs[0].address), op_.outputs[0].bytes);
    options.setRoot(root());
    options.setTag(tag());
    gloo::broadcast(options);
  }

  void barrier() {
    if ((op_.request.flags & C10D_FLAG_MONITORED) != 0) return monitored_barrier(op_, contexts_);
    gloo::BarrierOptions options(context());
    options.setTag(tag());
    gloo::barrier(options);
  }

  void reduce() {
    gloo::ReduceOptions options(context());
    set_reduction(options, op_, op_.output(), op_.outputs[0].bytes);
    options.setRoot(root());
    options.setTag(tag());
    gloo::reduce(options);
    if (at_root()) finish_reduction(op_.output(), op_.outputs[0].bytes);
  }

  void all_gather(const c10d_buffer& input, void* output, size_t bytes) {
    // Debian 12's Gloo divides by the size of the input.
    if (bytes == 0) return;
    gloo::AllgatherOptions options(context());
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
    const size_t n = static_cast<size_t>(contexts_.size());
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

  /// Indices, then values. The splits are the number of entries of each rank. The tag is that of the first half.
  void all_gather_sparse() {
    const uint64_t total = entries(op_);
    for (size_t i = 0; i < op_.inputs.size(); i++) {
      const size_t entry_bytes = op_.outputs[i].bytes / total;
      std::vector<size_t> counts;
      for (const uint64_t entries_of_rank : op_.input_splits) counts.push_back(entries_of_rank * entry_bytes);
      gloo::AllgathervOptions options(context());
      options.setInput(bytes_at(op_.inputs[i].address), op_.inputs[i].bytes);
      options.setOutput(bytes_at(op_.outputs[i].address), counts);
      options.setTag(tag());
      gloo::allgatherv(options);
    }
  }

  void gather() {
    gloo::GatherOptions options(context());
    const Flat flat(at_root() ? total_bytes(op_.outputs) : 0);
    options.setInput(bytes_at(op_.inputs[0].address), op_.inputs[0].bytes);
    if (at_root()) options.setOutput(flat.data(), total_bytes(op_.outputs));
    options.setRoot(root());
    options.setTag(tag());
    gloo::gather(options);
    if (at_root()) flat.scatter_to(op_.outputs);
  }

  void scatter() {
    gloo::ScatterOptions options(context());
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

  /// An all-reduce of the whole input. Each rank keeps its part.
  void reduce_scatter() {
    const size_t bytes = op_.inputs[0].bytes;
    const Flat flat(bytes);
    flat.gather_from(op_.inputs);
    all_reduce(flat.data(), bytes, 0);
    const size_t part = op_.outputs[0].bytes;
    if (part > 0) std::memcpy(op_.output(), flat.data() + part * static_cast<size_t>(contexts_.rank()), part);
  }

  void reduce_scatter_list() {
    for (size_t i = 0; i < op_.inputs.size(); i++) {
      const size_t bytes = op_.inputs[i].bytes;
      const Flat flat(bytes);
      flat.gather_from({op_.inputs[i]});
      all_reduce(flat.data(), bytes, static_cast<uint32_t>(i));
      if (static_cast<int>(i) == contexts_.rank()) flat.scatter_to(op_.outputs);
    }
  }

  void all_to_all() {
    const auto& input = op_.inputs[0];
    const auto& output = op_.outputs[0];
    if (op_.input_splits.empty() && op_.output_splits.empty()) {
      gloo::AlltoallOptions options(context());
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
    gloo::AlltoallvOptions options(context());
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
  const GlooContexts& contexts_;
};

}  // namespace

void run_collective(const Op& op, const GlooContexts& contexts) { Collective(op, contexts).run(); }

}  // namespace c10d::gloo_shim
