#include "peers/peer_watch.h"

#include <chrono>
#include <cstring>
#include <string>

#include "ops/signature.h"

namespace c10d::mpi_shim {

namespace {

/// Minimum time between two polls for messages by ops that start.
constexpr std::chrono::milliseconds kPollInterval{1};
/// One poll receives one message, and what other ranks have sent for their ops is ahead of these messages.
constexpr int kPollsBeforeStart = 64;
/// For how long, and for how many polls, messages of a rank may still be in flight after it has reported that it
/// leaves.
constexpr std::chrono::milliseconds kLeftGrace{200};
constexpr uint64_t kLeftPolls = 16;

std::string rank_text(int rank) { return "rank " + std::to_string(rank); }

}  // namespace

void PeerWatch::poll_before_start() {
  if (const auto now = Clock::now(); now >= next_poll_before_start_) {
    next_poll_before_start_ = now + kPollInterval;
    for (int i = 0; i < kPollsBeforeStart; i++) Runtime::get().messenger().poll();
  }
  handle_messages();
}

void PeerWatch::handle_messages() {
  for (const PeerMessage& message : self_->received_since(seen_messages_)) {
    if (message.rank < 0 || message.rank >= size_) continue;
    if (message.kind == PeerMessage::failed) {
      if (failure_) continue;
      failure_ = failure_of(message);
      has_failure_ = true;
      continue;
    }
    departures_[static_cast<size_t>(message.rank)] =
        Departure{static_cast<PeerMessage::Kind>(message.kind), message.collectives, Clock::now(), polls_};
    any_left_ = true;
  }
}

Failure PeerWatch::failure_of(const PeerMessage& message) const {
  const std::string text(message.text, ::strnlen(message.text, sizeof message.text));
  // All ranks report a mismatch with the same text.
  if (message.status == C10D_ERR_DESYNC) {
    return desync(C10D_MISMATCH_REPORTED, message.cause, message.rank, text).of_collective(message.collectives);
  }
  const bool names_other = message.cause >= 0 && message.cause != rank_;
  if (message.status == C10D_ERR_OP_TIMEOUT && names_other) {
    return Failure(C10D_ERR_OP_TIMEOUT, rank_text(message.rank) + ": " + text, message.cause);
  }
  const int culprit = names_other ? message.cause : message.rank;
  return Failure(C10D_ERR_NETWORK, rank_text(message.rank) + " has given up the group: " + text, culprit);
}

Failure PeerWatch::left(int rank) const {
  const bool ended = departures_[static_cast<size_t>(rank)]->kind == PeerMessage::ended;
  return Failure(C10D_ERR_NETWORK, rank_text(rank) + (ended ? " has ended" : " has closed the group"), rank);
}

/// Whether a rank has left, and none of its earlier messages can be in flight any more.
bool PeerWatch::is_gone(int rank) const {
  const auto& departure = departures_[static_cast<size_t>(rank)];
  return departure && polls_ - departure->received_in_poll >= kLeftPolls &&
         Clock::now() - departure->received_at >= kLeftGrace;
}

int PeerWatch::lost_peer(const Op& op) const {
  if (op.request.opcode != C10D_OP_RECV_ANY_SOURCE) return is_gone(op.request.peer) ? op.request.peer : -1;
  int last = -1;
  for (int rank = 0; rank < size_; rank++) {
    if (rank == rank_) continue;
    if (!is_gone(rank)) return -1;
    const auto received_at = [this](int of) { return departures_[static_cast<size_t>(of)]->received_at; };
    if (last < 0 || received_at(rank) > received_at(last)) last = rank;
  }
  return last;
}

void PeerWatch::check(const std::vector<std::unique_ptr<Call>>& calls) const {
  for (const auto& call : calls) {
    const Op& op = *call->op;
    if (op.point_to_point()) {
      const int peer = lost_peer(op);
      if (peer < 0) continue;
      if (op.request.opcode == C10D_OP_SEND) throw left(peer);
      call->sender_left = true;
      continue;
    }
    for (int rank = 0; rank < size_; rank++) {
      const auto& departure = departures_[static_cast<size_t>(rank)];
      if (departure && op.number > departure->collectives) throw left(rank);
    }
  }
}

}  // namespace c10d::mpi_shim
