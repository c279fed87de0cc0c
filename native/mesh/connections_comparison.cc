// How ranks find that their calls differ, and give each other the time to find it.
#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "mesh/connections.h"

namespace c10d {

namespace {

/// How long a rank keeps its connections open after a mismatch, so that the others can compare too.
constexpr std::chrono::milliseconds kWaitForHeaders{1'000};
/// The same once it has the headers of all ranks.
constexpr std::chrono::milliseconds kWaitForOthers{50};

}  // namespace

void Connections::set_mismatch(std::optional<Failure> mismatch, bool apart) {
  if (mismatch_ || !mismatch) return;
  mismatch_ = std::move(mismatch);
  others_until_ = Clock::now() + kWaitForHeaders;
  if (on_mismatch_) on_mismatch_(*mismatch_, apart);
}

void Connections::compare(int peer) {
  Connection& connection = connections_[static_cast<size_t>(peer)];
  if (connection.compared == 0 && connection.in.at > 0) {
    connection.compared = 1;
    const bool apart = connection.own.turn != connection.theirs.turn;
    const Signature& own = connection.own.signature;
    const Signature& theirs = connection.theirs.signature;
    set_mismatch(mismatch_of(own, rank_, theirs, peer, apart), apart);
    // What follows the header is then something else.
    if (!agree(own.call, theirs.call)) connection.headers = 1;
  }
  if (connection.compared == 1 && connection.to_compare() && connection.in.at > 1) {
    connection.compared = 2;
    if (--parts_missing_ == 0) set_mismatch(first_of_all());
  }
}

void Connections::compare_all() {
  for (int peer = 0; peer < size(); peer++) {
    Connection& connection = connections_[static_cast<size_t>(peer)];
    try {
      while (connection.to_compare() && receive_some(peer)) continue;
    } catch (const ConnectionLost&) {  // Only the first loss is reported.
      connection.headers = connection.compared;
    }
  }
}

std::optional<Signature> Connections::signature_of(int rank, int other) {
  const Connection& connection = connections_[static_cast<size_t>(rank == rank_ ? other : rank)];
  if (connection.compared == 0 || connection.own.turn != connection.theirs.turn) return std::nullopt;
  if (rank == rank_) return connection.own.signature;
  if (other == rank_) return connection.theirs.signature;
  Signature signature{connection.theirs.signature.call};
  // Of both ranks or of neither.
  if (connection.compared > 1 && connections_[static_cast<size_t>(other)].compared > 1) {
    const uint64_t* const parts = parts_of(rank);
    signature.sent = parts[other];
    signature.expected = parts[size() + other];
  }
  return signature;
}

std::optional<Failure> Connections::first_of_all() {
  return first_mismatch(rank_, size(), [this](int rank, int other) { return signature_of(rank, other); });
}

void Connections::name_first() {
  auto first = first_of_all();
  if (!first || first->ranks() == mismatch_->ranks()) return;
  mismatch_ = std::move(first);
  if (on_mismatch_) on_mismatch_(*mismatch_, false);
}

void Connections::send_headers() {
  for (int peer = 0; peer < size(); peer++) {
    const Connection& connection = connections_[static_cast<size_t>(peer)];
    try {
      while (connection.out.at < connection.headers && send_some(peer)) continue;
    } catch (const ConnectionLost&) {  // That peer no longer compares.
    }
  }
}

bool Connections::let_others_compare(Clock::time_point deadline) {
  while (!aborted_ && Clock::now() < others_until_) {
    if (Clock::now() >= deadline) return false;
    if (!all_compared_) {
      send_headers();
      compare_all();
      all_compared_ = std::none_of(connections_.begin(), connections_.end(), [](const Connection& connection) {
        return connection.to_compare() || connection.out.at < connection.headers;
      });
      if (all_compared_) others_until_ = Clock::now() + kWaitForOthers;
      name_first();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

}  // namespace c10d
