#include "messages.h"

#include <climits>
#include <string>

#include "datatypes.h"
#include "reduction/reduction.h"
#include "runtime.h"

namespace c10d::mpi_shim {

namespace {

using std::chrono::milliseconds;

/// What rank 0 is given beyond its time to name the ranks.
constexpr milliseconds kGrace{2'000};

std::string list_of(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "Rank " : "Ranks ";
  for (size_t i = 0; i < ranks.size(); i++) text += (i == 0 ? "" : ", ") + std::to_string(ranks[i]);
  return text;
}

bool sends(const Op& op) { return op.request.opcode == C10D_OP_SEND; }

const c10d_buffer& buffer_of(const Op& op) { return sends(op) ? op.inputs[0] : op.outputs[0]; }

Failure wrong_size(const Op& op, int source, const std::string& sent) {
  return Failure(C10D_ERR_NETWORK,
                 "message from rank " + std::to_string(source) + ": it sent " + sent +
                     " bytes where this rank expects " + std::to_string(buffer_of(op).bytes),
                 source);
}

}  // namespace

void check_message(const Op& op, int rank, int world_size, int first_own_tag) {
  const auto& request = op.request;
  if ((sends(op) ? op.inputs : op.outputs).size() != 1) throw Failure(C10D_ERR_INVALID, "takes one buffer");
  const size_t size = element_size(request.dtype);
  if (size == 0) throw Failure(C10D_ERR_UNSUPPORTED, "unknown dtype");
  const uint64_t bytes = buffer_of(op).bytes;
  if (bytes % size != 0) throw Failure(C10D_ERR_INVALID, "buffer is no whole number of elements");
  if (bytes / size > INT_MAX) {
    throw Failure(C10D_ERR_INVALID, "MPI counts elements up to " + std::to_string(INT_MAX) + ", these are " +
                                        std::to_string(bytes / size) + ": send them as several messages");
  }
  if (request.tag >= static_cast<uint32_t>(first_own_tag)) {
    throw Failure(C10D_ERR_INVALID, "tag " + std::to_string(request.tag) + " is too large: this MPI has tags up to " +
                                        std::to_string(first_own_tag - 1));
  }
  if (request.opcode == C10D_OP_RECV_ANY_SOURCE) return;
  if (request.peer < 0 || request.peer >= world_size) throw Failure(C10D_ERR_INVALID, "no such peer");
  if (request.peer == rank) throw Failure(C10D_ERR_INVALID, "the peer is this rank itself");
}

void begin_message(Call& call, const Communicator& communicator) {
  const Op& op = *call.op;
  const auto& buffer = buffer_of(op);
  auto* data = reinterpret_cast<void*>(buffer.address);
  const auto type = datatype_of(op.request.dtype);
  const int count = static_cast<int>(buffer.bytes / element_size(op.request.dtype));
  const int tag = static_cast<int>(op.request.tag);
  if (sends(op)) {
    require_success(MPI_Isend(data, count, type, op.request.peer, tag, communicator.handle, call.add_request()),
                    "MPI_Isend");
    return;
  }
  const int source = op.request.opcode == C10D_OP_RECV ? op.request.peer : MPI_ANY_SOURCE;
  require_success(MPI_Irecv(data, count, type, source, tag, communicator.handle, call.add_request()), "MPI_Irecv");
}

void end_message(Op& op, const MPI_Status& status) {
  if (sends(op)) return;
  op.peer = status.MPI_SOURCE;
  int bytes = 0;
  MPI_Get_count(&status, MPI_BYTE, &bytes);
  // Beyond what an int counts MPI says MPI_UNDEFINED; the elements were counted before.
  if (bytes >= 0 && static_cast<uint64_t>(bytes) != buffer_of(op).bytes) {
    throw wrong_size(op, status.MPI_SOURCE, std::to_string(bytes));
  }
}

Failure too_long(const Op& op, int source) { return wrong_size(op, source, "more"); }

void give_grace(Op& op) {
  if (op.deadline < Clock::time_point::max() - kGrace) op.deadline += kGrace;
}

void begin_monitored_barrier(Call& call, const Communicator& communicator) {
  const int there = communicator.first_own_tag;
  const int back = there + 1;
  const auto comm = communicator.handle;
  if (communicator.rank != 0) {
    uint8_t* notes = call.add_buffer(2);
    notes[0] = 1;
    require_success(MPI_Isend(notes, 1, MPI_BYTE, 0, there, comm, call.add_request()), "MPI_Isend");
    require_success(MPI_Irecv(notes + 1, 1, MPI_BYTE, 0, back, comm, call.add_request()), "MPI_Irecv");
    return;
  }
  const int others = communicator.size - 1;
  uint8_t* notes = call.add_buffer(static_cast<size_t>(others) + 1);
  for (int rank = 1; rank <= others; rank++) {
    require_success(MPI_Irecv(notes + rank - 1, 1, MPI_BYTE, rank, there, comm, call.add_request()), "MPI_Irecv");
  }
  call.next_step = [&call, notes, others, comm, back, released = false]() mutable {
    if (released) return true;
    released = true;
    call.requests.clear();
    uint8_t* note = notes + others;
    *note = 1;
    for (int rank = 1; rank <= others; rank++) {
      require_success(MPI_Isend(note, 1, MPI_BYTE, rank, back, comm, call.add_request()), "MPI_Isend");
    }
    return false;
  };
}

void watch_monitored_barrier(const Call& call, const Communicator& communicator) {
  const Op& op = *call.op;
  if (communicator.rank != 0 || op.deadline == Clock::time_point::max()) return;
  if (Clock::now() < op.deadline - kGrace) return;
  std::vector<int> missing;
  for (size_t i = 0; i < call.requests.size(); i++) {
    if (call.requests[i] == MPI_REQUEST_NULL) continue;
    missing.push_back(static_cast<int>(i) + 1);
    if ((op.request.flags & C10D_FLAG_WAIT_ALL_RANKS) == 0) break;
  }
  if (missing.empty()) return;
  const auto limit = static_cast<int64_t>(op.request.timeout_ms);
  throw Failure(
      C10D_ERR_OP_TIMEOUT,
      "[Rank 0]: " + list_of(missing) + " failed to pass monitoredBarrier in " + std::to_string(limit) + " ms",
      missing.front());
}

}  // namespace c10d::mpi_shim
