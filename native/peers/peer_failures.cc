#include "peers/peer_failures.h"

#include <string>

#include "ops/signature.h"

namespace c10d {

namespace {

std::string rank_text(int rank) { return "rank " + std::to_string(rank); }

}  // namespace

Failure process_ended(int rank) {
  return Failure(C10D_ERR_NETWORK, rank_text(rank) + " is lost: its process has ended", rank);
}

Failure left_group(int rank) { return Failure(C10D_ERR_NETWORK, rank_text(rank) + " has left the group", rank); }

/// A time-out there is reported as a time-out here: no rank knows better which one is late.
Failure failure_from(int rank, const PeerMessage& message, int own_rank) {
  // A mismatch between two ranks holds on every rank.
  if (message.status == C10D_ERR_DESYNC) {
    const bool of_this_rank = message.cause == own_rank;
    return desync(C10D_MISMATCH_REPORTED, of_this_rank ? message.cause : rank, of_this_rank ? rank : message.cause,
                  message.text())
        .of_collective(message.collectives);
  }
  const bool late = message.status == C10D_ERR_OP_TIMEOUT;
  std::string text = late ? "an op timed out on " : "the group has failed on ";
  text += rank_text(rank);
  const bool other = message.cause >= 0 && message.cause != rank;
  if (other) text += " because of rank " + std::to_string(message.cause);
  if (message.status == C10D_ERR_BACKEND) text += ": " + message.text();
  const int culprit = message.cause == own_rank || (message.cause < 0 && !late) ? rank : message.cause;
  return Failure(late ? C10D_ERR_OP_TIMEOUT : C10D_ERR_NETWORK, text, culprit);
}

Failure creation_failure_from(int rank, const PeerMessage& message, int own_rank) {
  if (message.status == C10D_ERR_DESYNC) return failure_from(rank, message, own_rank);
  const bool late = message.status == C10D_ERR_OP_TIMEOUT;
  // The rank only waited for others or noticed that they are lost: it did not cause the failure.
  const bool waited = late || message.status == C10D_ERR_NETWORK;
  const int culprit = message.cause == own_rank ? -1 : message.cause < 0 && !waited ? rank : message.cause;
  return Failure(late ? C10D_ERR_OP_TIMEOUT : C10D_ERR_NETWORK,
                 rank_text(rank) + " has given up making the group: " + message.text(), culprit);
}

}  // namespace c10d
