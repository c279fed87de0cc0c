#include "collectives.h"

#include <algorithm>
#include <cstring>

#include "datatypes.h"
#include "direct_all_reduce.h"
#include "ops/checked_size.h"
#include "process/runtime.h"
#include "reduction/reduction.h"

namespace c10d::mpi_shim {

namespace {

using Buffers = std::vector<c10d_buffer>;

uint8_t* bytes_at(uint64_t address) { return reinterpret_cast<uint8_t*>(address); }

/// The engine refuses lists whose sum overflows.
uint64_t total_bytes(const Buffers& buffers) { return checked_sum(buffers).value_or(0); }

/// Whether the buffers are adjacent in memory, like slices of one array.
bool adjacent(const Buffers& buffers) {
  for (size_t i = 1; i < buffers.size(); i++) {
    if (buffers[i].address != buffers[i - 1].address + buffers[i - 1].bytes) return false;
  }
  return true;
}

bool overlap(const void* a, uint64_t a_bytes, const void* b, uint64_t b_bytes) {
  const auto first = reinterpret_cast<uint64_t>(a);
  const auto second = reinterpret_cast<uint64_t>(b);
  return a_bytes > 0 && b_bytes > 0 && first < second + b_bytes && second < first + a_bytes;
}

void copy(void* to, const void* from, uint64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void gather_from(const Buffers& buffers, uint8_t* to) {
  for (const auto& buffer : buffers) {
    copy(to, bytes_at(buffer.address), buffer.bytes);
    to += buffer.bytes;
  }
}

void scatter_to(const Buffers& buffers, const uint8_t* from) {
  for (const auto& buffer : buffers) {
    copy(bytes_at(buffer.address), from, buffer.bytes);
    from += buffer.bytes;
  }
}

/// Begins one op. Lists of buffers are copied to and from a flat buffer, unless they are adjacent.
class Beginning {
 public:
  Beginning(Call& call, const Communicator& communicator)
      : call_(call),
        op_(*call.op),
        comm_(communicator),
        type_(datatype_of(op_.request.dtype)),
        size_(element_size(op_.request.dtype)) {}

  void run() {
    switch (op_.request.opcode) {
      case C10D_OP_BROADCAST:
        return in_pieces(op_.outputs[0], [&](uint8_t* data, int count) {
          require_success(MPI_Ibcast(data, count, type_, root(), comm_.handle, request()), "MPI_Ibcast");
        });
      case C10D_OP_ALLREDUCE:
        return is_direct(comm_, op_.outputs[0].bytes) ? all_reduce_directly(op_.outputs[0])
                                                      : all_reduce(op_.outputs[0]);
      case C10D_OP_ALLREDUCE_COALESCED:
        return all_reduce_list();
      case C10D_OP_REDUCE:
        return reduce();
      case C10D_OP_ALLGATHER:
        return all_gather_list();
      case C10D_OP_ALLGATHER_BASE:
        return all_gather(op_.inputs[0], bytes_at(op_.outputs[0].address));
      case C10D_OP_ALLGATHER_COALESCED:
        for (size_t i = 0; i < op_.inputs.size(); i++) all_gather(op_.inputs[i], bytes_at(op_.outputs[i].address));
        return;
      case C10D_OP_GATHER:
        return gather();
      case C10D_OP_SCATTER:
        return scatter();
      case C10D_OP_REDUCE_SCATTER:
        return reduce_scatter_list();
      case C10D_OP_REDUCE_SCATTER_BASE:
        return reduce_scatter(op_.inputs[0], op_.outputs[0]);
      case C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED:
        for (size_t i = 0; i < op_.inputs.size(); i++) reduce_scatter(op_.inputs[i], op_.outputs[i]);
        return;
      case C10D_OP_ALLTOALL:
        return all_to_all_list();
      case C10D_OP_ALLTOALL_BASE:
        return all_to_all();
      case C10D_OP_BARRIER:
        return require_success(MPI_Ibarrier(comm_.handle, request()), "MPI_Ibarrier");
      default:
        throw Failure(C10D_ERR_UNSUPPORTED, "mpi does not implement this op");
    }
  }

 private:
  int root() const { return op_.request.peer; }
  bool at_root() const { return comm_.rank == root(); }
  MPI_Request* request() { return call_.add_request(); }
  int count_of(uint64_t bytes) const { return static_cast<int>(bytes / size_); }
  MPI_Op operation() const { return operation_of(op_.request.dtype, op_.request.reduce_op); }
  bool averages() const { return op_.request.reduce_op == C10D_AVG; }
  bool multiplies_first() const { return op_.request.reduce_op == C10D_PREMUL_SUM; }

  void then(std::function<void()> step) {
    if (!call_.finish) {
      call_.finish = std::move(step);
    } else {
      call_.finish = [first = std::move(call_.finish), second = std::move(step)] {
        first();
        second();
      };
    }
  }

  void average_after(uint8_t* data, uint64_t bytes) {
    if (!averages() || bytes == 0) return;
    then([data, bytes, n = comm_.size, dtype = op_.request.dtype, size = size_] {
      divide(data, bytes / size, dtype, n);
    });
  }
  void multiply_before(uint8_t* data, uint64_t bytes) const {
    if (multiplies_first()) multiply(data, bytes / size_, op_.request.dtype, op_.request.premul_factor);
  }

  /// Calls `begin(data, count)` for parts that are small enough for one native call.
  template <class Begin>
  void in_pieces(const c10d_buffer& buffer, Begin begin) {
    uint64_t left = buffer.bytes / size_;
    uint8_t* at = bytes_at(buffer.address);
    do {
      const uint64_t count = std::min<uint64_t>(left, comm_.max_count);
      begin(at, static_cast<int>(count));
      at += count * size_;
      left -= count;
    } while (left > 0);
  }

  /// The list as one buffer: a copy, unless the buffers are adjacent.
  uint8_t* flat_input(const Buffers& buffers, bool own = false) {
    if (!own && adjacent(buffers)) return bytes_at(buffers[0].address);
    uint8_t* flat = call_.add_buffer(total_bytes(buffers));
    gather_from(buffers, flat);
    return flat;
  }
  /// The buffer for the results of the list.
  uint8_t* flat_output(const Buffers& buffers) {
    if (adjacent(buffers)) return bytes_at(buffers[0].address);
    uint8_t* flat = call_.add_buffer(total_bytes(buffers));
    then([&buffers, flat] { scatter_to(buffers, flat); });
    return flat;
  }

  void all_reduce(const c10d_buffer& buffer) {
    multiply_before(bytes_at(buffer.address), buffer.bytes);
    in_pieces(buffer, [&](uint8_t* data, int count) {
      require_success(MPI_Iallreduce(MPI_IN_PLACE, data, count, type_, operation(), comm_.handle, request()),
                      "MPI_Iallreduce");
    });
    average_after(bytes_at(buffer.address), buffer.bytes);
  }

  void all_reduce_directly(const c10d_buffer& buffer) {
    multiply_before(bytes_at(buffer.address), buffer.bytes);
    begin_direct_all_reduce(call_, comm_, bytes_at(buffer.address), buffer.bytes);
  }

  /// Small tensors as one op on a copy, large ones each on its own.
  void all_reduce_list() {
    constexpr uint64_t kLarge = 64 * 1024;
    const uint64_t bytes = total_bytes(op_.outputs);
    if (bytes > kLarge * op_.outputs.size()) {
      for (const auto& buffer : op_.outputs) all_reduce(buffer);
      return;
    }
    uint8_t* flat = adjacent(op_.outputs) ? bytes_at(op_.outputs[0].address) : call_.add_buffer(bytes);
    const bool copied = !adjacent(op_.outputs);
    if (copied) gather_from(op_.outputs, flat);
    all_reduce({reinterpret_cast<uint64_t>(flat), bytes});
    if (copied) then([this_op = &op_, flat] { scatter_to(this_op->outputs, flat); });
  }

  void reduce() {
    const auto& buffer = op_.outputs[0];
    multiply_before(bytes_at(buffer.address), buffer.bytes);
    in_pieces(buffer, [&](uint8_t* data, int count) {
      const void* from = at_root() ? MPI_IN_PLACE : data;
      require_success(
          MPI_Ireduce(from, at_root() ? data : nullptr, count, type_, operation(), root(), comm_.handle, request()),
          "MPI_Ireduce");
    });
    if (at_root()) average_after(bytes_at(buffer.address), buffer.bytes);
  }

  void all_gather(const c10d_buffer& input, uint8_t* output) {
    const int count = count_of(input.bytes);
    const uint8_t* own_place = output + input.bytes * static_cast<uint64_t>(comm_.rank);
    const void* from = bytes_at(input.address);
    if (from == own_place) from = MPI_IN_PLACE;
    require_success(MPI_Iallgather(from, count, type_, output, count, type_, comm_.handle, request()),
                    "MPI_Iallgather");
  }

  void all_gather_list() {
    uint8_t* output = flat_output(op_.outputs);
    all_gather(op_.inputs[0], output);
  }

  void gather() {
    const auto& input = op_.inputs[0];
    const int count = count_of(input.bytes);
    const void* from = bytes_at(input.address);
    uint8_t* output = nullptr;
    if (at_root()) {
      output = flat_output(op_.outputs);
      if (from == output + input.bytes * static_cast<uint64_t>(comm_.rank)) from = MPI_IN_PLACE;
    }
    require_success(MPI_Igather(from, count, type_, output, count, type_, root(), comm_.handle, request()),
                    "MPI_Igather");
  }

  void scatter() {
    const auto& output = op_.outputs[0];
    const int count = count_of(output.bytes);
    void* to = bytes_at(output.address);
    const uint8_t* input = nullptr;
    if (at_root()) {
      input = flat_input(op_.inputs);
      if (to == input + output.bytes * static_cast<uint64_t>(comm_.rank)) to = MPI_IN_PLACE;
    }
    require_success(MPI_Iscatter(input, count, type_, to, count, type_, root(), comm_.handle, request()),
                    "MPI_Iscatter");
  }

  void reduce_scatter(const c10d_buffer& input, const c10d_buffer& output) {
    uint8_t* from = own_if_needed({input}, output);
    uint8_t* to = bytes_at(output.address);
    require_success(
        MPI_Ireduce_scatter_block(from, to, count_of(output.bytes), type_, operation(), comm_.handle, request()),
        "MPI_Ireduce_scatter_block");
    average_after(to, output.bytes);
  }

  void reduce_scatter_list() {
    const auto& output = op_.outputs[0];
    uint8_t* from = own_if_needed(op_.inputs, output);
    int* counts = call_.add_numbers(op_.inputs.size());
    for (size_t i = 0; i < op_.inputs.size(); i++) counts[i] = count_of(op_.inputs[i].bytes);
    uint8_t* to = bytes_at(output.address);
    require_success(MPI_Ireduce_scatter(from, to, counts, type_, operation(), comm_.handle, request()),
                    "MPI_Ireduce_scatter");
    average_after(to, output.bytes);
  }

  /// The inputs as one buffer, which is a copy if it is to be multiplied or if the output overlaps it.
  uint8_t* own_if_needed(const Buffers& inputs, const c10d_buffer& output) {
    const bool covered = std::any_of(inputs.begin(), inputs.end(), [&](const c10d_buffer& input) {
      return overlap(bytes_at(input.address), input.bytes, bytes_at(output.address), output.bytes);
    });
    uint8_t* flat = nullptr;
    if (covered || multiplies_first() || !adjacent(inputs)) {
      const uint64_t bytes = total_bytes(inputs);
      flat = call_.add_buffer(bytes);
      gather_from(inputs, flat);
      multiply_before(flat, bytes);
      return flat;
    }
    return bytes_at(inputs[0].address);
  }

  void all_to_all() {
    const auto& input = op_.inputs[0];
    const auto& output = op_.outputs[0];
    uint8_t* to = bytes_at(output.address);
    const bool covered = overlap(bytes_at(input.address), input.bytes, to, output.bytes);
    uint8_t* from = flat_input(op_.inputs, covered);
    // Ranks that are other programs call MPI_Ialltoall, and this call has to match theirs.
    if (comm_.mixed && op_.input_splits.empty() && op_.output_splits.empty()) {
      const int count = count_of(input.bytes / static_cast<uint64_t>(comm_.size));
      require_success(MPI_Ialltoall(from, count, type_, to, count, type_, comm_.handle, request()), "MPI_Ialltoall");
      return;
    }
    all_to_all_v(from, layout(splits_of(op_.input_splits, input)), to, layout(splits_of(op_.output_splits, output)));
  }

  void all_to_all_list() {
    uint8_t* from = flat_input(op_.inputs, true);
    uint8_t* to = flat_output(op_.outputs);
    all_to_all_v(from, layout(counts(op_.inputs)), to, layout(counts(op_.outputs)));
  }

  std::vector<uint64_t> splits_of(const std::vector<uint64_t>& given, const c10d_buffer& buffer) const {
    const auto n = static_cast<size_t>(comm_.size);
    return given.empty() ? std::vector<uint64_t>(n, buffer.bytes / size_ / n) : given;
  }

  struct Layout {
    int* counts;
    int* displacements;
  };

  void all_to_all_v(uint8_t* from, Layout sent, uint8_t* to, Layout received) {
    require_success(MPI_Ialltoallv(from, sent.counts, sent.displacements, type_, to, received.counts,
                                   received.displacements, type_, comm_.handle, request()),
                    "MPI_Ialltoallv");
  }

  Layout layout(const std::vector<uint64_t>& splits) {
    const Layout made{call_.add_numbers(splits.size()), call_.add_numbers(splits.size())};
    int at = 0;
    for (size_t i = 0; i < splits.size(); i++) {
      made.counts[i] = static_cast<int>(splits[i]);
      made.displacements[i] = at;
      at += made.counts[i];
    }
    return made;
  }

  std::vector<uint64_t> counts(const Buffers& buffers) const {
    std::vector<uint64_t> made;
    for (const auto& buffer : buffers) made.push_back(buffer.bytes / size_);
    return made;
  }

  Call& call_;
  Op& op_;
  const Communicator& comm_;
  const MPI_Datatype type_;
  const size_t size_;
};

}  // namespace

void begin_collective(Call& call, const Communicator& communicator) { Beginning(call, communicator).run(); }

}  // namespace c10d::mpi_shim
