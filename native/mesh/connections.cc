#include "mesh/connections.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <exception>
#include <string>
#include <thread>
#include <utility>

namespace c10d {

namespace {

constexpr size_t kMaxSpans = 8;
/// Most bytes in one call of the kernel, so that sending and receiving alternate while the data is in the cache.
constexpr size_t kMaxBytes = 128 * 1024;
/// After a mismatch a rank keeps its connections open, so that the others can compare too: for the longer time at most, and
/// for the shorter one when it has the headers of all ranks.
constexpr std::chrono::milliseconds kOthersCompare{50};
constexpr std::chrono::milliseconds kOthersCome{1'000};

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

void Lines::Queue::advance(size_t bytes) {
  while (bytes > 0) {
    iovec& span = spans[at];
    const size_t part = std::min(bytes, span.iov_len);
    span.iov_base = static_cast<char*>(span.iov_base) + part;
    span.iov_len -= part;
    bytes -= part;
    if (span.iov_len == 0) at++;
  }
}

Lines::Lines(int rank, std::vector<Fd> sockets, OnMismatch on_mismatch)
    : rank_(rank), lines_(sockets.size()), on_mismatch_(std::move(on_mismatch)) {
  for (size_t peer = 0; peer < sockets.size(); peer++) {
    lines_[peer].socket = std::move(sockets[peer]);
  }
  // What one of two ranks sends the other is in the headers already.
  if (all_compare() && size() > 2) parts_.resize(2 * lines_.size() * lines_.size());
}

Lines::~Lines() = default;

void Lines::abort() noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (aborted_.exchange(true)) return;
  }
  for (const auto& line : lines_) {
    if (line.socket.get() < 0) continue;
    // A reset notifies the peers when it is closed; shutting down the receiving side wakes only this process.
    const linger none{1, 0};
    ::setsockopt(line.socket.get(), SOL_SOCKET, SO_LINGER, &none, sizeof none);
    ::shutdown(line.socket.get(), SHUT_RD);
  }
  turn_over_.notify_all();
}

bool Lines::move(int peer) {
  const bool sent = send_some(peer);
  return receive_some(peer) || sent;
}

bool Lines::send_some(int peer) {
  Line& line = lines_[static_cast<size_t>(peer)];
  if (line.out.empty()) return false;
  iovec spans[kMaxSpans];
  msghdr message{};
  message.msg_iov = spans;
  message.msg_iovlen = fill(spans, line.out.spans, line.out.at);
  const auto sent = ::sendmsg(line.socket.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent > 0) {
    line.out.advance(static_cast<size_t>(sent));
    return true;
  }
  if (errno != EAGAIN && errno != EINTR && line.in.empty()) {
    // What the peer sent before it left is read first, since it may be the cause.
    throw LineBroken{peer, errno == EPIPE ? "Connection closed by peer" : std::strerror(errno)};
  }
  return false;
}

bool Lines::receive_some(int peer) {
  Line& line = lines_[static_cast<size_t>(peer)];
  if (line.in.empty()) return false;
  iovec spans[kMaxSpans];
  msghdr message{};
  message.msg_iov = spans;
  message.msg_iovlen = fill(spans, line.in.spans, line.in.at);
  const auto got = ::recvmsg(line.socket.get(), &message, MSG_DONTWAIT);
  if (got > 0) {
    line.in.advance(static_cast<size_t>(got));
    if (line.to_compare()) compare(peer);
    return true;
  }
  if (aborted_) fail_aborted();
  if (got == 0) throw LineBroken{peer, "Connection closed by peer"};
  if (errno != EAGAIN && errno != EINTR) throw LineBroken{peer, std::strerror(errno)};
  return false;
}

bool Lines::move_all() {
  bool moved = false;
  try {
    for (int peer = 0; peer < size(); peer++) {
      if (!exhausted(lines_[static_cast<size_t>(peer)]) && move(peer)) moved = true;
    }
  } catch (const LineBroken&) {
    compare_all();
    if (!mismatch_) throw;
  }
  return moved;
}

void Lines::set_mismatch(std::optional<Failure> mismatch, bool apart) {
  if (mismatch_ || !mismatch) return;
  mismatch_ = std::move(mismatch);
  others_until_ = Clock::now() + kOthersCome;
  if (on_mismatch_) on_mismatch_(*mismatch_, apart);
}

void Lines::compare(int peer) {
  Line& line = lines_[static_cast<size_t>(peer)];
  if (line.compared == 0 && line.in.at > 0) {
    line.compared = 1;
    const bool apart = line.own.turn != line.theirs.turn;
    const Signature& own = line.own.signature;
    const Signature& theirs = line.theirs.signature;
    set_mismatch(mismatch_of(own, rank_, theirs, peer, apart), apart);
    // Then what follows is something else.
    if (!agree(own.call, theirs.call)) line.headers = 1;
  }
  if (line.compared == 1 && line.to_compare() && line.in.at > 1) {
    line.compared = 2;
    if (--parts_missing_ == 0) set_mismatch(first_of_all());
  }
}

void Lines::compare_all() {
  for (int peer = 0; peer < size(); peer++) {
    Line& line = lines_[static_cast<size_t>(peer)];
    try {
      while (line.to_compare() && receive_some(peer)) continue;
    } catch (const LineBroken&) {  // The first one is reported.
      line.headers = line.compared;
    }
  }
}

std::optional<Signature> Lines::signature_of(int rank, int other) {
  const Line& line = lines_[static_cast<size_t>(rank == rank_ ? other : rank)];
  if (line.compared == 0 || line.own.turn != line.theirs.turn) return std::nullopt;
  if (rank == rank_) return line.own.signature;
  if (other == rank_) return line.theirs.signature;
  Signature signature{line.theirs.signature.call};
  // Of both or of none.
  if (line.compared > 1 && lines_[static_cast<size_t>(other)].compared > 1) {
    const uint64_t* const parts = parts_of(rank);
    signature.sent = parts[other];
    signature.expected = parts[size() + other];
  }
  return signature;
}

std::optional<Failure> Lines::first_of_all() {
  return first_mismatch(rank_, size(), [this](int rank, int other) { return signature_of(rank, other); });
}

void Lines::name_first() {
  auto first = first_of_all();
  if (!first || first->ranks() == mismatch_->ranks()) return;
  mismatch_ = std::move(first);
  if (on_mismatch_) on_mismatch_(*mismatch_, false);
}

void Lines::send_headers() {
  for (int peer = 0; peer < size(); peer++) {
    const Line& line = lines_[static_cast<size_t>(peer)];
    try {
      while (line.out.at < line.headers && send_some(peer)) continue;
    } catch (const LineBroken&) {  // Nobody is there to compare.
    }
  }
}

bool Lines::let_others_compare(Clock::time_point deadline) {
  while (!aborted_ && Clock::now() < others_until_) {
    if (Clock::now() >= deadline) return false;
    if (!all_compared_) {
      send_headers();
      compare_all();
      all_compared_ = std::none_of(lines_.begin(), lines_.end(),
                                   [](const Line& line) { return line.to_compare() || line.out.at < line.headers; });
      if (all_compared_) others_until_ = Clock::now() + kOthersCompare;
      name_first();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

bool Lines::sleep(Clock::time_point deadline) {
  std::vector<pollfd> sources;
  bool owes_data = false;
  for (int peer = 0; peer < size(); peer++) {
    const Line& line = lines_[static_cast<size_t>(peer)];
    if (exhausted(line)) continue;
    if (sources.empty() || (!line.in.empty() && !owes_data)) awaited_ = peer;
    owes_data = owes_data || !line.in.empty();
    // The end of the receiving side is how abort() wakes this thread.
    const short wanted = static_cast<short>((line.in.empty() ? POLLRDHUP : POLLIN) | (line.out.empty() ? 0 : POLLOUT));
    sources.push_back({line.socket.get(), wanted, 0});
  }
  timespec left{};
  if (deadline != Clock::time_point::max()) {
    const auto ns = std::max<int64_t>(0, std::chrono::nanoseconds(deadline - Clock::now()).count());
    left = {static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
  }
  const int ready =
      ::ppoll(sources.data(), sources.size(), deadline == Clock::time_point::max() ? nullptr : &left, nullptr);
  awaited_ = -1;
  if (aborted_) fail_aborted();
  return ready != 0;
}

void Lines::await_turn(uint32_t sequence) {
  std::unique_lock<std::mutex> lock(mutex_);
  turn_over_.wait(lock, [&] { return turn_ == sequence || aborted_; });
  if (aborted_) fail_aborted();
}

bool Lines::has_turn(uint32_t sequence) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return turn_ == sequence && !aborted_;
}

Lines::Turn::Turn(Lines& lines, const Op& op)
    : lines_(lines), call_(call_of(op)), unwinding_(std::uncaught_exceptions()) {}

Lines::Turn::~Turn() {
  for (auto& line : lines_.lines_) {
    line.in.spans.clear();
    line.out.spans.clear();
    line.in.at = line.out.at = 0;
    line.headers = line.compared = 0;
  }
  lines_.parts_missing_ = 0;
  // After a failure nobody knows what is still on its way, and the group is about to be aborted.
  if (std::uncaught_exceptions() > unwinding_) return;
  const std::lock_guard<std::mutex> lock(lines_.mutex_);
  lines_.turn_ = turn_after(lines_.turn_);
  lines_.turn_over_.notify_all();
}

void Lines::Turn::set_part(int rank, uint64_t sends, uint64_t expects) {
  if (lines_.parts_.empty()) return;
  sends_parts_ = true;
  uint64_t* const parts = lines_.parts_of(lines_.rank_);
  parts[rank] = sends;
  parts[lines_.size() + rank] = expects;
}

void Lines::Turn::exchange_headers(int peer, uint64_t sends, uint64_t expects) {
  Line& line = lines_.lines_[static_cast<size_t>(peer)];
  line.own = {{call_, sends, expects}, lines_.turn_};
  line.out.push(&line.own, sizeof line.own);
  line.in.push(&line.theirs, sizeof line.theirs);
  line.headers = 1;
  if (!sends_parts_) return;
  const size_t bytes = 2 * lines_.lines_.size() * sizeof(uint64_t);
  line.out.push(lines_.parts_of(lines_.rank_), bytes);
  line.in.push(lines_.parts_of(peer), bytes);
  line.headers = 2;
  lines_.parts_missing_++;
}

void Lines::Turn::start() {
  // All have this rank's header before it can find that one of them calls something else.
  for (int peer = 0; peer < lines_.size(); peer++) lines_.send_some(peer);
  lines_.move_all();
}

void Lines::Turn::send(int peer, const void* data, size_t bytes) {
  if (bytes > 0) lines_.lines_[static_cast<size_t>(peer)].out.push(const_cast<void*>(data), bytes);
}

void Lines::Turn::receive(int peer, void* data, size_t bytes) {
  if (bytes > 0) lines_.lines_[static_cast<size_t>(peer)].in.push(data, bytes);
}

uint8_t* Lines::Turn::scratch(size_t bytes) {
  constexpr size_t kMostKept = 16 * 1024 * 1024;
  if (lines_.scratch_bytes_ < bytes || (lines_.scratch_bytes_ > kMostKept && bytes <= kMostKept)) {
    lines_.scratch_.reset();
    lines_.scratch_.reset(new uint8_t[bytes]);
    lines_.scratch_bytes_ = bytes;
  }
  return lines_.scratch_.get();
}

bool Lines::Turn::idle() const {
  if (lines_.mismatch_) return false;
  return std::all_of(lines_.lines_.begin(), lines_.lines_.end(),
                     [&](const Line& line) { return lines_.exhausted(line); });
}

bool Lines::Turn::finish_by(Clock::time_point deadline) {
  return lines_.run_until([&] { return idle(); }, deadline);
}

}  // namespace c10d
