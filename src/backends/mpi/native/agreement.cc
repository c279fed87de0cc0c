#include "agreement.h"

#include <chrono>
#include <cstring>

#include "ops/op_parts.h"
#include "process/runtime.h"

namespace c10d::mpi_shim {

namespace {

/// How long a rank that finds a mismatch of parts waits for those of the other ranks.
constexpr std::chrono::milliseconds kOthersArrive{1'000};

bool ended(MPI_Request& request) {
  int over = 0;
  require_success(MPI_Test(&request, &over, MPI_STATUS_IGNORE), "MPI_Test");
  return over != 0;
}

}  // namespace

void Agreement::begin(const Op& op, const Communicator& communicator, uint64_t number) {
  comm_ = &communicator;
  op_ = &op;
  in_pairs_ = false;
  own_.signature = {call_of(op)};
  distance_ = 1;
  tag_ = direct() ? communicator.signature_tag : communicator.turn_tag(number);
  carries_data_ = direct() && is_small(op, communicator.size);
  has_parts_ = all_compare() && is_all_to_all(op);
  mismatch_.reset();
  own_.carries_data = carries_data_ ? 1 : 0;
  direct() ? send_to_all() : begin_round();
}

void Agreement::make_room(int ranks) {
  const size_t bytes = static_cast<size_t>(ranks) * slot_bytes();
  if (incoming_.size() >= bytes) return;
  incoming_.resize(bytes);
  outgoing_.resize(bytes);
}

void Agreement::send_to_all() {
  const Op& op = *op_;
  make_room(comm_->size);
  const auto others = static_cast<size_t>(comm_->size - 1);
  receives_.assign(others, MPI_REQUEST_NULL);
  sends_.assign(others, MPI_REQUEST_NULL);
  for (size_t i = 0; i < others; i++) {
    require_success(MPI_Irecv(incoming(source(i)), static_cast<int>(slot_bytes()), MPI_BYTE, source(i), tag_,
                              comm_->handle, &receives_[i]),
                    "MPI_Irecv");
  }
  if (has_parts_) write_parts();
  for (size_t i = 0; i < others; i++) {
    Header header = own_;
    header.signature.sent = part_to(op, destination(i), comm_->size).bytes;
    header.signature.expected = part_from(op, destination(i), comm_->size).bytes;
    std::memcpy(outgoing(i), &header, sizeof header);
    if (has_parts_) std::memcpy(outgoing(i) + sizeof header, incoming(comm_->rank) + sizeof header, parts_bytes());
    size_t bytes = data_at();
    if (carries_data_) bytes += copy_part(op, comm_->rank, destination(i), comm_->size, outgoing(i) + bytes);
    require_success(
        MPI_Isend(outgoing(i), static_cast<int>(bytes), MPI_BYTE, destination(i), tag_, comm_->handle, &sends_[i]),
        "MPI_Isend");
  }
  if (carries_data_) copy_part(op, comm_->rank, comm_->rank, comm_->size, incoming(comm_->rank) + data_at());
}

void Agreement::write_parts() {
  uint8_t* at = incoming(comm_->rank);
  std::memcpy(at, &own_, sizeof own_);
  at += sizeof own_;
  for (const auto part : {part_to, part_from}) {
    for (int rank = 0; rank < comm_->size; rank++, at += sizeof(uint64_t)) {
      const uint64_t bytes = part(*op_, rank, comm_->size).bytes;
      std::memcpy(at, &bytes, sizeof bytes);
    }
  }
}

/// Sends only its own signature, since a rank that received a different one goes no further.
void Agreement::begin_round() {
  make_room(1);
  receives_.assign(1, MPI_REQUEST_NULL);
  sends_.assign(1, MPI_REQUEST_NULL);
  require_success(MPI_Irecv(incoming(source(0)), static_cast<int>(sizeof own_), MPI_BYTE, source(0), tag_,
                            comm_->handle, receives_.data()),
                  "MPI_Irecv");
  std::memcpy(outgoing(0), &own_, sizeof own_);
  require_success(MPI_Isend(outgoing(0), static_cast<int>(sizeof own_), MPI_BYTE, destination(0), tag_, comm_->handle,
                            sends_.data()),
                  "MPI_Isend");
}

bool Agreement::reached() {
  while (all_ended()) {
    if (direct()) return true;
    if (distance_ * 2 < comm_->size) {
      distance_ *= 2;
      begin_round();
    } else if (is_all_to_all(*op_)) {
      in_pairs_ = true;
      distance_ = 1;
      send_to_all();
    } else {
      return true;
    }
  }
  return false;
}

void Agreement::compare(size_t i) {
  Header own;
  Header theirs;
  std::memcpy(&own, outgoing(i), sizeof own);
  std::memcpy(&theirs, incoming(source(i)), sizeof theirs);
  if (theirs.carries_data == 0) carries_data_ = false;
  const auto mismatch = mismatch_of(own.signature, comm_->rank, theirs.signature, source(i));
  if (!mismatch) return;
  // A rank that calls something else sends no parts.
  if (!has_parts_ || !agree(own.signature.call, theirs.signature.call)) throw Failure(*mismatch);
  if (mismatch_) return;
  mismatch_ = mismatch;
  others_until_ = Clock::now() + kOthersArrive;
}

Signature Agreement::signature_of(int rank, int other) {
  Header header;
  const uint8_t* at = incoming(rank);
  std::memcpy(&header, at, sizeof header);
  at += sizeof header;
  Signature& signature = header.signature;
  const auto ranks = static_cast<size_t>(comm_->size);
  std::memcpy(&signature.sent, at + static_cast<size_t>(other) * sizeof(uint64_t), sizeof(uint64_t));
  std::memcpy(&signature.expected, at + (ranks + static_cast<size_t>(other)) * sizeof(uint64_t), sizeof(uint64_t));
  return signature;
}

bool Agreement::all_ended() {
  bool all = true;
  for (size_t i = 0; i < receives_.size(); i++) {
    if (receives_[i] == MPI_REQUEST_NULL) continue;
    if (!ended(receives_[i])) {
      all = false;
      continue;
    }
    compare(i);
  }
  if (all && has_parts_) {
    const auto first = first_mismatch(comm_->rank, comm_->size, [this](int a, int b) { return signature_of(a, b); });
    if (first) throw Failure(*first);
  }
  if (mismatch_ && Clock::now() >= others_until_) throw Failure(*mismatch_);
  for (auto& request : sends_) {
    if (request != MPI_REQUEST_NULL && !ended(request)) all = false;
  }
  return all;
}

void Agreement::finish(const Op& op) {
  finish_small(op, comm_->rank, comm_->size, [this](int rank) { return incoming(rank) + data_at(); });
}

int Agreement::awaited() const {
  for (size_t i = 0; i < receives_.size(); i++) {
    if (receives_[i] != MPI_REQUEST_NULL) return source(i);
  }
  return -1;
}

bool Agreement::awaits(int rank) const {
  for (size_t i = 0; i < receives_.size(); i++) {
    if (receives_[i] != MPI_REQUEST_NULL && source(i) == rank) return true;
  }
  return false;
}

void Agreement::cancel() {
  for (auto& request : receives_) {
    if (request != MPI_REQUEST_NULL) MPI_Cancel(&request);
  }
}

}  // namespace c10d::mpi_shim
