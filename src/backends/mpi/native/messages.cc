#include "messages.h"

#include <algorithm>
#include <string>
#include <vector>

#include "datatypes.h"
#include "ops/signature.h"
#include "process/runtime.h"
#include "reduction/reduction.h"

namespace c10d::mpi_shim {

namespace {

using std::chrono::milliseconds;

/// How much the deadline of rank 0 is extended so that it can name the ranks.
constexpr milliseconds kGrace{2'000};
/// How much the deadline of the others is extended for its answer. Together with the time in which the ranks agree on
/// the cause this is less than the second after which a process group ends an op itself.
constexpr milliseconds kAnswerGrace{500};
/// The largest message that is received although it does not fit.
constexpr MPI_Count kMaxDiscarded = MPI_Count{16} << 20;

std::string list_of(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "Rank " : "Ranks ";
  for (size_t i = 0; i < ranks.size(); i++) text += (i == 0 ? "" : ", ") + std::to_string(ranks[i]);
  return text;
}

bool sends(const Op& op) { return op.request.opcode == C10D_OP_SEND; }
bool from_any(const Op& op) { return op.request.opcode == C10D_OP_RECV_ANY_SOURCE; }

const c10d_buffer& buffer_of(const Op& op) { return sends(op) ? op.inputs[0] : op.outputs[0]; }

Failure wrong_size(const Op& op, int rank, int source, MPI_Count sent) {
  // MPI does not report its dtype.
  return desync(C10D_MISMATCH_MESSAGE, rank, source,
                "rank " + std::to_string(source) + " sent " + std::to_string(sent) + " bytes with tag " +
                    std::to_string(op.request.tag) + ", rank " + std::to_string(rank) + " was to receive " +
                    std::to_string(buffer_of(op).bytes) + " bytes");
}

}  // namespace

void begin_message(Call& call, const Communicator& communicator) {
  const Op& op = *call.op;
  if (!sends(op)) {
    call.unmatched = true;
    return;
  }
  const auto& buffer = op.inputs[0];
  const int count = static_cast<int>(buffer.bytes / element_size(op.request.dtype));
  require_success(MPI_Isend(reinterpret_cast<void*>(buffer.address), count, datatype_of(op.request.dtype),
                            op.request.peer, static_cast<int>(op.request.tag), communicator.handle, call.add_request()),
                  "MPI_Isend");
}

namespace {

uint64_t channel(uint32_t tag, int source) { return uint64_t{tag} << 32 | static_cast<uint32_t>(source); }

}  // namespace

void Waiting::add(const Op& op) {
  const uint32_t tag = op.request.tag;
  if (from_any(op)) {
    tags_from_any_.insert(tag);
  } else {
    tags_from_one_.insert(tag);
    from_one_.insert(channel(tag, op.request.peer));
  }
}

void Waiting::clear() {
  from_one_.clear();
  tags_from_one_.clear();
  tags_from_any_.clear();
}

bool Waiting::may_take(const Op& op, int source) const {
  const uint32_t tag = op.request.tag;
  if (tags_from_any_.count(tag) > 0) return false;
  return source == MPI_ANY_SOURCE ? tags_from_one_.count(tag) == 0 : from_one_.count(channel(tag, source)) == 0;
}

namespace {

/// A message that has arrived, matched so that no other receive can take it.
struct Arrived {
  MPI_Message message = MPI_MESSAGE_NULL;
  MPI_Status status{};
};

bool probe(const Op& op, int source, const Communicator& communicator, Arrived& arrived) {
  int found = 0;
  require_success(MPI_Improbe(source, static_cast<int>(op.request.tag), communicator.handle, &found, &arrived.message,
                              &arrived.status),
                  "MPI_Improbe");
  return found != 0;
}

bool find(const Op& op, const Communicator& communicator, const Waiting& earlier, Arrived& arrived) {
  const int source_rank = from_any(op) ? MPI_ANY_SOURCE : op.request.peer;
  if (earlier.may_take(op, source_rank)) return probe(op, source_rank, communicator, arrived);
  if (!from_any(op)) return false;
  // A message from a rank that no earlier receive waits for.
  for (int source = 0; source < communicator.size; source++) {
    if (source == communicator.rank || !earlier.may_take(op, source)) continue;
    if (probe(op, source, communicator, arrived)) return true;
  }
  return false;
}

}  // namespace

bool match_message(Call& call, const Communicator& communicator, const Waiting& earlier) {
  const Op& op = *call.op;
  Arrived arrived;
  if (!find(op, communicator, earlier, arrived)) return false;
  auto& [message, status] = arrived;
  call.unmatched = false;
  const auto& buffer = op.outputs[0];
  MPI_Count bytes = 0;
  MPI_Get_elements_x(&status, MPI_BYTE, &bytes);
  if (static_cast<uint64_t>(bytes) != buffer.bytes) {
    // A message that is not large is received all the same, so that the send ends. The send of a larger one fails with
    // the group.
    const bool receives = bytes <= kMaxDiscarded;
    uint8_t* const discarded = receives ? call.add_buffer(static_cast<size_t>(bytes)) : nullptr;
    if (receives) MPI_Imrecv(discarded, static_cast<int>(bytes), MPI_BYTE, &message, call.add_request());
    throw wrong_size(op, communicator.rank, status.MPI_SOURCE, bytes);
  }
  const int count = static_cast<int>(buffer.bytes / element_size(op.request.dtype));
  require_success(MPI_Imrecv(reinterpret_cast<void*>(buffer.address), count, datatype_of(op.request.dtype), &message,
                             call.add_request()),
                  "MPI_Imrecv");
  return true;
}

bool end_message(Op& op, const MPI_Status& status) {
  if (sends(op)) return false;
  op.source = status.MPI_SOURCE;
  return true;
}

void give_grace(Op& op, int rank) {
  const auto grace = rank == 0 ? kGrace : kAnswerGrace;
  if (op.deadline < Clock::time_point::max() - grace) op.deadline += grace;
}

void begin_monitored_barrier(Call& call, const Communicator& communicator) {
  const int arrival = communicator.first_own_tag;
  const int release = arrival + 1;
  const auto comm = communicator.handle;
  if (communicator.rank != 0) {
    uint8_t* marks = call.add_buffer(2);
    marks[0] = 1;
    require_success(MPI_Isend(marks, 1, MPI_BYTE, 0, arrival, comm, call.add_request()), "MPI_Isend");
    require_success(MPI_Irecv(marks + 1, 1, MPI_BYTE, 0, release, comm, call.add_request()), "MPI_Irecv");
    return;
  }
  const int others = communicator.size - 1;
  uint8_t* marks = call.add_buffer(static_cast<size_t>(others) + 1);
  for (int rank = 1; rank <= others; rank++) {
    require_success(MPI_Irecv(marks + rank - 1, 1, MPI_BYTE, rank, arrival, comm, call.add_request()), "MPI_Irecv");
  }
  call.next_step = [&call, marks, others, comm, release, released = false]() mutable {
    if (released) return true;
    released = true;
    call.requests.clear();
    uint8_t* mark = marks + others;
    *mark = 1;
    for (int rank = 1; rank <= others; rank++) {
      require_success(MPI_Isend(mark, 1, MPI_BYTE, rank, release, comm, call.add_request()), "MPI_Isend");
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
  throw Failure::of_ranks(
      C10D_ERR_OP_TIMEOUT,
      "[Rank 0]: " + list_of(missing) + " failed to pass monitoredBarrier in " + std::to_string(limit) + " ms",
      missing);
}

}  // namespace c10d::mpi_shim
