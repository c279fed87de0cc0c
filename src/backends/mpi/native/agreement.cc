#include "agreement.h"

#include <cstring>

#include "engine/op_parts.h"
#include "runtime.h"

namespace c10d::mpi_shim {

namespace {

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
  own_.carries_data = carries_data_ ? 1 : 0;
  direct() ? send_to_all() : begin_round();
}

void Agreement::make_room(int ranks) {
  const size_t bytes = static_cast<size_t>(ranks) * kSlot;
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
    require_success(MPI_Irecv(incoming(source(i)), static_cast<int>(kSlot), MPI_BYTE, source(i), tag_, comm_->handle,
                              &receives_[i]),
                    "MPI_Irecv");
  }
  for (size_t i = 0; i < others; i++) {
    Header header = own_;
    header.signature.sent = part_to(op, destination(i), comm_->size).bytes;
    header.signature.expected = part_from(op, destination(i), comm_->size).bytes;
    std::memcpy(outgoing(i), &header, sizeof header);
    size_t bytes = sizeof header;
    if (carries_data_) bytes += copy_part(op, comm_->rank, destination(i), comm_->size, outgoing(i) + bytes);
    require_success(
        MPI_Isend(outgoing(i), static_cast<int>(bytes), MPI_BYTE, destination(i), tag_, comm_->handle, &sends_[i]),
        "MPI_Isend");
  }
  if (carries_data_) copy_part(op, comm_->rank, comm_->rank, comm_->size, incoming(comm_->rank) + sizeof(Header));
}

/// Sends nothing but the own signature, since whoever has seen another one goes no further.
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

bool Agreement::all_ended() {
  bool all = true;
  for (size_t i = 0; i < receives_.size(); i++) {
    if (receives_[i] == MPI_REQUEST_NULL) continue;
    if (!ended(receives_[i])) {
      all = false;
      continue;
    }
    Header own;
    Header theirs;
    std::memcpy(&own, outgoing(i), sizeof own);
    std::memcpy(&theirs, incoming(source(i)), sizeof theirs);
    require_same(own.signature, comm_->rank, theirs.signature, source(i));
    if (theirs.carries_data == 0) carries_data_ = false;
  }
  for (auto& request : sends_) {
    if (request != MPI_REQUEST_NULL && !ended(request)) all = false;
  }
  return all;
}

void Agreement::finish(const Op& op) {
  finish_small(op, comm_->rank, comm_->size, [this](int rank) { return incoming(rank) + sizeof(Header); });
}

int Agreement::awaited() const {
  for (size_t i = 0; i < receives_.size(); i++) {
    if (receives_[i] != MPI_REQUEST_NULL) return source(i);
  }
  return -1;
}

void Agreement::cancel() {
  for (auto& request : receives_) {
    if (request != MPI_REQUEST_NULL) MPI_Cancel(&request);
  }
}

}  // namespace c10d::mpi_shim
