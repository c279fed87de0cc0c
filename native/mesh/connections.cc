#include "mesh/connections.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <string>
#include <utility>

namespace c10d {

namespace {

constexpr size_t kMaxSpans = 8;
/// Most bytes per system call, so that sending and receiving alternate while the data is in the cache.
constexpr size_t kMaxBytes = 128 * 1024;

[[noreturn]] void fail_aborted() { throw Failure(C10D_ERR_ABORTED, "the group was aborted"); }

size_t fill(iovec* to, const std::vector<iovec>& spans, size_t at) {
  size_t count = 0;
  size_t room = kMaxBytes;
  for (; count < kMaxSpans && at < spans.size() && room > 0; count++, at++) {
    to[count] = {spans[at].iov_base, std::min(spans[at].iov_len, room)};
    room -= to[count].iov_len;
  }
  return count;
}

}  // namespace

void Connections::Queue::advance(size_t bytes) {
  while (bytes > 0) {
    iovec& span = spans[at];
    const size_t part = std::min(bytes, span.iov_len);
    span.iov_base = static_cast<char*>(span.iov_base) + part;
    span.iov_len -= part;
    bytes -= part;
    if (span.iov_len == 0) at++;
  }
}

Connections::Connections(int rank, std::vector<Fd> sockets, OnMismatch on_mismatch)
    : rank_(rank), connections_(sockets.size()), on_mismatch_(std::move(on_mismatch)) {
  for (size_t peer = 0; peer < sockets.size(); peer++) {
    connections_[peer].socket = std::move(sockets[peer]);
  }
  // With two ranks the headers already have the sizes.
  if (all_compare() && size() > 2) parts_.resize(2 * connections_.size() * connections_.size());
}

Connections::~Connections() = default;

void Connections::abort() noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (aborted_.exchange(true)) return;
  }
  for (const auto& connection : connections_) {
    if (connection.socket.get() < 0) continue;
    // Closing the socket will reset it, which notifies the peer. Shutting down the receiving side wakes only this
    // process.
    const linger none{1, 0};
    ::setsockopt(connection.socket.get(), SOL_SOCKET, SO_LINGER, &none, sizeof none);
    ::shutdown(connection.socket.get(), SHUT_RD);
  }
  turn_over_.notify_all();
}

bool Connections::move(int peer) {
  const bool sent = send_some(peer);
  return receive_some(peer) || sent;
}

bool Connections::send_some(int peer) {
  Connection& connection = connections_[static_cast<size_t>(peer)];
  if (connection.out.empty()) return false;
  iovec spans[kMaxSpans];
  msghdr message{};
  message.msg_iov = spans;
  message.msg_iovlen = fill(spans, connection.out.spans, connection.out.at);
  const auto sent = ::sendmsg(connection.socket.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent > 0) {
    connection.out.advance(static_cast<size_t>(sent));
    return true;
  }
  if (errno != EAGAIN && errno != EINTR && connection.in.empty()) {
    // What the peer sent before it closed is read first, since it may contain the cause.
    throw ConnectionLost{peer, errno == EPIPE ? "Connection closed by peer" : std::strerror(errno)};
  }
  return false;
}

bool Connections::receive_some(int peer) {
  Connection& connection = connections_[static_cast<size_t>(peer)];
  if (connection.in.empty()) return false;
  iovec spans[kMaxSpans];
  msghdr message{};
  message.msg_iov = spans;
  message.msg_iovlen = fill(spans, connection.in.spans, connection.in.at);
  const auto got = ::recvmsg(connection.socket.get(), &message, MSG_DONTWAIT);
  if (got > 0) {
    connection.in.advance(static_cast<size_t>(got));
    if (connection.to_compare()) compare(peer);
    return true;
  }
  if (aborted_) fail_aborted();
  if (got == 0) throw ConnectionLost{peer, "Connection closed by peer"};
  if (errno != EAGAIN && errno != EINTR) throw ConnectionLost{peer, std::strerror(errno)};
  return false;
}

bool Connections::move_all() {
  bool moved = false;
  try {
    for (int peer = 0; peer < size(); peer++) {
      if (!exhausted(connections_[static_cast<size_t>(peer)]) && move(peer)) moved = true;
    }
  } catch (const ConnectionLost&) {
    compare_all();
    if (!mismatch_) throw;
  }
  return moved;
}

void Connections::note_awaited() {
  int awaited = -1;
  bool awaits_data = false;
  for (int peer = 0; peer < size(); peer++) {
    const Connection& connection = connections_[static_cast<size_t>(peer)];
    if (exhausted(connection)) continue;
    if (awaited < 0 || (!connection.in.empty() && !awaits_data)) awaited = peer;
    awaits_data = awaits_data || !connection.in.empty();
  }
  awaited_.store(awaited, std::memory_order_relaxed);
}

bool Connections::sleep(Clock::time_point deadline) {
  std::vector<pollfd> sources;
  for (const Connection& connection : connections_) {
    if (exhausted(connection)) continue;
    // abort() wakes this thread by shutting down the receiving side.
    const short wanted =
        static_cast<short>((connection.in.empty() ? POLLRDHUP : POLLIN) | (connection.out.empty() ? 0 : POLLOUT));
    sources.push_back({connection.socket.get(), wanted, 0});
  }
  timespec left{};
  if (deadline != Clock::time_point::max()) {
    const auto ns = std::max<int64_t>(0, std::chrono::nanoseconds(deadline - Clock::now()).count());
    left = {static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
  }
  const int ready =
      ::ppoll(sources.data(), sources.size(), deadline == Clock::time_point::max() ? nullptr : &left, nullptr);
  if (aborted_) fail_aborted();
  return ready != 0;
}

void Connections::await_turn(uint32_t sequence) {
  std::unique_lock<std::mutex> lock(mutex_);
  turn_over_.wait(lock, [&] { return turn_ == sequence || aborted_; });
  if (aborted_) fail_aborted();
}

bool Connections::has_turn(uint32_t sequence) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return turn_ == sequence && !aborted_;
}

Connections::Turn::Turn(Connections& owner, const Op& op)
    : owner_(owner), call_(call_of(op)), unwinding_(std::uncaught_exceptions()) {}

Connections::Turn::~Turn() {
  for (auto& connection : owner_.connections_) {
    connection.in.spans.clear();
    connection.out.spans.clear();
    connection.in.at = connection.out.at = 0;
    connection.headers = connection.compared = 0;
  }
  owner_.parts_missing_ = 0;
  owner_.awaited_ = -1;
  // After a failure it is unknown what is still in flight. The group is about to be aborted.
  if (std::uncaught_exceptions() > unwinding_) return;
  const std::lock_guard<std::mutex> lock(owner_.mutex_);
  owner_.turn_ = turn_after(owner_.turn_);
  owner_.turn_over_.notify_all();
}

void Connections::Turn::set_part(int rank, uint64_t sends, uint64_t expects) {
  if (owner_.parts_.empty()) return;
  sends_parts_ = true;
  uint64_t* const parts = owner_.parts_of(owner_.rank_);
  parts[rank] = sends;
  parts[owner_.size() + rank] = expects;
}

void Connections::Turn::exchange_headers(int peer, uint64_t sends, uint64_t expects) {
  Connection& connection = owner_.connections_[static_cast<size_t>(peer)];
  connection.own = {{call_, sends, expects}, owner_.turn_};
  connection.out.push(&connection.own, sizeof connection.own);
  connection.in.push(&connection.theirs, sizeof connection.theirs);
  connection.headers = 1;
  if (!sends_parts_) return;
  const size_t bytes = 2 * owner_.connections_.size() * sizeof(uint64_t);
  connection.out.push(owner_.parts_of(owner_.rank_), bytes);
  connection.in.push(owner_.parts_of(peer), bytes);
  connection.headers = 2;
  owner_.parts_missing_++;
}

void Connections::Turn::start() {
  // This rank's header goes to all peers before a mismatch with one of them can be found.
  for (int peer = 0; peer < owner_.size(); peer++) owner_.send_some(peer);
  owner_.move_all();
  owner_.note_awaited();
}

void Connections::Turn::send(int peer, const void* data, size_t bytes) {
  if (bytes > 0) owner_.connections_[static_cast<size_t>(peer)].out.push(const_cast<void*>(data), bytes);
}

void Connections::Turn::receive(int peer, void* data, size_t bytes) {
  if (bytes > 0) owner_.connections_[static_cast<size_t>(peer)].in.push(data, bytes);
}

uint8_t* Connections::Turn::scratch(size_t bytes) {
  constexpr size_t kMostKept = 16 * 1024 * 1024;
  if (owner_.scratch_bytes_ < bytes || (owner_.scratch_bytes_ > kMostKept && bytes <= kMostKept)) {
    owner_.scratch_.reset();
    owner_.scratch_.reset(new uint8_t[bytes]);
    owner_.scratch_bytes_ = bytes;
  }
  return owner_.scratch_.get();
}

bool Connections::Turn::idle() const {
  if (owner_.mismatch_) return false;
  return std::all_of(owner_.connections_.begin(), owner_.connections_.end(),
                     [&](const Connection& connection) { return owner_.exhausted(connection); });
}

bool Connections::Turn::finish_by(Clock::time_point deadline) {
  return owner_.run_until([&] { return idle(); }, deadline);
}

}  // namespace c10d
