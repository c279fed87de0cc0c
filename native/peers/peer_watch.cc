#include "peers/peer_watch.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>

#include <algorithm>

#include "peers/peer_failures.h"

namespace c10d {

namespace {

using std::chrono::milliseconds;

/// How long data that a rank sent may still be in flight after its process ended.
constexpr milliseconds kExitGrace{200};
/// The same for a rank of another host that left cleanly.
constexpr milliseconds kRemoteGrace{500};
/// How long a rank waits in a collective before it notifies others, in a group of few ranks; and for each rank
/// more.
constexpr milliseconds kAnnounceAfter{20};
constexpr std::chrono::microseconds kAnnounceAfterPerRank{200};
/// How long after the failure of a rank that had the group the others may still complete it.
constexpr milliseconds kCreatedGrace{1'000};

}  // namespace

void PeerWatch::set_made() {
  local_listener_.reset();
  remote_listener_.reset();
  const std::lock_guard<std::mutex> lock(mutex_);
  forwarded_.reset();
  made_ = true;
}

void PeerWatch::require_all() {
  read();
  const int ranks = static_cast<int>(peers_.size());
  for (int rank = 0; rank < ranks; rank++) {
    const auto& last_message = peer(rank).last_message;
    if (!last_message || last_message->kind != PeerMessage::failed) continue;
    // If that rank had the group before it failed, this one has everything that it needs to complete it.
    if (last_message->had_group != 0 && Clock::now() - peer(rank).left_at < kCreatedGrace) continue;
    const Failure failure = creation_failure_from(rank, *last_message, config_.rank);
    const std::lock_guard<std::mutex> lock(mutex_);
    forwarded_ = *last_message;
    forwarded_->cause = failure.peer();
    throw Failure(failure);
  }
  // A rank that left cleanly had the group, and does not keep the others from completing it.
  for (int rank = 0; rank < ranks; rank++) {
    if (peer(rank).disconnected_at && !peer(rank).last_message) throw process_ended(rank);
  }
}

bool PeerWatch::is_local(int rank) const { return std::binary_search(local_ranks_.begin(), local_ranks_.end(), rank); }

bool PeerWatch::memory_is_readable(int rank) const {
  const Peer& other = peer(rank);
  if (other.process == 0) return true;
  uint64_t token = 0;
  const iovec to{&token, sizeof token};
  const iovec from{reinterpret_cast<void*>(other.address), sizeof token};
  return ::process_vm_readv(other.process, &to, 1, &from, 1, 0) == sizeof token && token == other.token;
}

bool PeerWatch::has_sent_last_message(int rank) {
  read();
  return peer(rank).last_message.has_value();
}

void PeerWatch::set_timer(std::chrono::microseconds length) {
  if (!timer_set_ && length.count() == 0) return;
  timer_set_ = length.count() > 0;
  itimerspec until{};
  until.it_value.tv_nsec = timer_set_ ? static_cast<long>(length.count()) * 1000 : 1;
  ::timerfd_settime(timer_.get(), 0, &until, nullptr);
}

void PeerWatch::wake(int rank) const {
  PeerMessage message;
  message.kind = PeerMessage::wake;
  send_message(peer(rank).socket.get(), message);
}

bool PeerWatch::read() {
  epoll_event events[16];
  const int count = ::epoll_wait(epoll_.get(), events, 16, 0);
  for (int i = 0; i < count; i++) {
    if (events[i].data.u64 != kTimerEvent) read(static_cast<int>(events[i].data.u64));
  }
  return count > 0;
}

void PeerWatch::read(int rank) {
  Peer& other = peer(rank);
  if (!memory_received_ && rank == local_ranks_.front()) {
    auto memory = take_descriptor(other.socket.get());
    if (!memory) return;
    memory_received_ = true;
    memory_ = std::move(*memory);
  }
  for (;;) {
    switch (other.reader.read(other.socket.get())) {
      case PeerMessageReader::Result::nothing_yet:
        return;
      case PeerMessageReader::Result::ended:
        other.disconnected_at = Clock::now();
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, other.socket.get(), nullptr);
        return;
      case PeerMessageReader::Result::message:
        break;
    }
    const PeerMessage& message = other.reader.message();
    if (message.kind == PeerMessage::arrived) {
      arrived_[static_cast<size_t>(rank)] = message.collectives;
    } else if (message.kind != PeerMessage::wake && !other.last_message) {
      other.last_message = message;
      other.left_at = Clock::now();
    }
  }
}

std::optional<Failure> PeerWatch::check(const Awaited& awaited, Clock::time_point now) {
  read();
  for (int rank = 0; rank < config_.world_size; rank++) {
    const Peer& other = peer(rank);
    const auto& last_message = other.last_message;
    if (!last_message && !other.disconnected_at) continue;
    if (last_message && last_message->kind == PeerMessage::failed)
      return failure_from(rank, *last_message, config_.rank);
    const auto disconnected_for = [&](milliseconds grace) {
      return other.disconnected_at && now - *other.disconnected_at >= grace;
    };
    if (!last_message) {
      if (disconnected_for(kExitGrace)) return process_ended(rank);
      continue;
    }
    const bool message = std::find(awaited.peers.begin(), awaited.peers.end(), rank) != awaited.peers.end();
    const bool over = awaited.collective > last_message->collectives;
    if (over || (message && disconnected_for(is_local(rank) ? kExitGrace : kRemoteGrace))) return left_group(rank);
  }
  announce(awaited, now);
  return std::nullopt;
}

/// No rank completes a collective between hosts before all have reached it. So a rank that waits in one has reached it,
/// and the other way round.
void PeerWatch::announce(const Awaited& awaited, Clock::time_point now) {
  if (audience_ == Audience::other_hosts && local_ranks_.size() == peers_.size()) return;
  if (awaited.oldest != oldest_) {
    oldest_ = awaited.oldest;
    oldest_since_ = now;
  }
  if (oldest_ == 0) return;
  const auto patience = kAnnounceAfter + kAnnounceAfterPerRank * config_.world_size;
  if (now - oldest_since_ < patience) return;
  // The others may have reached it as late as this one, and wait as long before they say so.
  if (now - oldest_since_ >= 2 * patience) known_ = oldest_;
  if (awaited.collective <= announced_) return;
  announced_ = awaited.collective;
  PeerMessage message;
  message.kind = PeerMessage::arrived;
  message.collectives = announced_;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (own_last_message_) return;
  for (int rank = 0; rank < config_.world_size; rank++) {
    if (is_notified(rank)) send_message(peer(rank).socket.get(), message);
  }
}

int PeerWatch::late_rank(uint64_t collective) const {
  if (known_ < collective) return -1;
  for (int rank = 0; rank < config_.world_size; rank++) {
    if (is_notified(rank) && arrived_[static_cast<size_t>(rank)] < collective) return rank;
  }
  return -1;
}

std::optional<Failure> PeerWatch::find_lost() {
  read();
  for (int rank = 0; rank < config_.world_size; rank++) {
    const auto& last_message = peer(rank).last_message;
    if (last_message && last_message->kind == PeerMessage::failed)
      return failure_from(rank, *last_message, config_.rank);
    if (last_message) return left_group(rank);
    if (peer(rank).disconnected_at) return process_ended(rank);
  }
  return std::nullopt;
}

void PeerWatch::leave(uint64_t collectives) noexcept {
  PeerMessage message;
  message.kind = PeerMessage::left;
  message.collectives = collectives;
  send_to_all(message);
}

void PeerWatch::fail(const Failure& cause) noexcept {
  PeerMessage message;
  message.kind = PeerMessage::failed;
  message.cause = cause.peer();
  message.status = cause.status();
  message.collectives = cause.collective();
  message.set_text(cause.text());
  {
    // The others receive the message of the first rank that failed, not what another one says about it.
    const std::lock_guard<std::mutex> lock(mutex_);
    if (forwarded_) message = *forwarded_;
    message.had_group = made_ ? 1 : 0;
  }
  send_to_all(message);
}

/// Sends the last message of this rank.
void PeerWatch::send_to_all(const PeerMessage& message) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (own_last_message_) return;
  own_last_message_ = message;
  for (const auto& other : peers_) {
    if (other.socket.get() < 0) continue;
    send_message(other.socket.get(), message);
    ::shutdown(other.socket.get(), SHUT_WR);
  }
}

}  // namespace c10d
