#include "context/pair.h"

#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

#include "context/gloo_error.h"
#include "ops/signature.h"

namespace c10d::gloo_shim {

namespace {

constexpr int kMaxYields = 1000;

/// Whether a slot is of send() and recv(). Those of collectives have a prefix.
bool is_message(uint64_t slot) { return slot >> 56 == 0; }

MismatchMessage as_mismatch(const tcp::Op& op) {
  static_assert(sizeof op.preamble == sizeof(MismatchMessage));
  MismatchMessage message;
  std::memcpy(static_cast<void*>(&message), &op.preamble, sizeof message);
  return message;
}

void reset_at_close(int socket) {
  const linger none{1, 0};
  ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &none, sizeof none);
}

}  // namespace

Pair::Pair(tcp::Context* context, tcp::Device* device, int rank, std::chrono::milliseconds timeout,
           bool takes_mismatches, LossRecord& losses, Doorbell& doorbell)
    : PortablePair(context, device, rank, timeout),
      own_rank_(context->rank),
      takes_mismatches_(takes_mismatches),
      losses_(losses),
      doorbell_(doorbell) {
  if constexpr (kPairListens) {
    // The base has opened a listening socket for this pair alone. Nothing will connect to it.
    const std::lock_guard<std::mutex> lock(m_);
    device_->unregisterDescriptor(fd_, this);
    ::close(fd_);
    fd_ = -1;
    state_ = INITIALIZING;
  }
}

Pair::~Pair() {
  // The base does the same, but then the loop thread could still be in an override of this class.
  const std::lock_guard<std::mutex> lock(m_);
  if (state_ != CLOSED) tcp::Pair::changeState(CLOSED);
  // Closing waits until the loop thread has left this object, but on a condition variable that orders nothing. This
  // load makes that thread's last writes visible before the object is destroyed.
  (void)events_.load(std::memory_order_acquire);
}

void Pair::adopt(Fd socket) {
  const std::lock_guard<std::mutex> lock(m_);
  if (state_ == CLOSED) {
    // The group has failed meanwhile. A reset notifies the peer. The base would end the process over events of a closed
    // pair.
    reset_at_close(socket.get());
    return;
  }
  self_ = tcp::Address::fromSockName(socket.get());
  peer_ = tcp::Address::fromPeerName(socket.get());
  const int on = 1;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  fd_ = socket.release();
  if (std::exchange(expected_later_, false)) tx_.pop_front();
  changeState(CONNECTED);
  device_->registerDescriptor(fd_, tx_.empty() ? EPOLLIN : EPOLLIN | EPOLLOUT, this);
}

void Pair::expect_later() {
  const std::lock_guard<std::mutex> lock(m_);
  // A placeholder: the base sends at once only when its queue is empty.
  tx_.emplace_back();
  expected_later_ = true;
}

Doorbell& Pair::before_events() {
  // The base returns at once when the mutex is taken. Since epoll is level-triggered, the loop thread would then spin
  // until the next scheduler tick (4 ms) while the thread that holds the mutex waits for a core: yield the core to it.
  for (int i = 0; i < kMaxYields; i++) {
    if (m_.try_lock()) {
      m_.unlock();
      break;
    }
    ::sched_yield();
  }
  events_.fetch_add(1, std::memory_order_release);
  return doorbell_;
}

Pair::Received Pair::receive(void* to, size_t bytes, size_t& got) {
  while (got < bytes) {
    const auto more = ::recv(fd_, static_cast<char*>(to) + got, bytes - got, 0);
    if (more > 0) {
      got += static_cast<size_t>(more);
    } else if (more == 0) {
      return Received::end;
    } else if (errno != EINTR) {
      if (errno == EAGAIN || errno == EWOULDBLOCK) return Received::nothing_yet;
      throw gloo::IoException(std::string("Read error: ") + std::strerror(errno));
    }
  }
  return Received::all;
}

bool Pair::read_mismatch(const MismatchMessage& message) {
  if (message.text_bytes > MismatchMessage::kMaxText) throw std::length_error("a mismatch message that is too long");
  mismatch_text_.resize(message.text_bytes);
  switch (receive(mismatch_text_.data(), mismatch_text_.size(), mismatch_got_)) {
    case Received::nothing_yet:
      return false;
    case Received::end:
      throw gloo::IoException("Read error: Connection closed by peer");
    case Received::all:
      break;
  }
  mismatch_got_ = 0;
  losses_.add_mismatch({decode_mismatch(message, mismatch_text_.data()), message.apart != 0});
  return true;
}

bool Pair::try_send(const std::vector<char>& message) {
  // Not in the middle of another message.
  if (!takes_mismatches_ || state_ != CONNECTED || !tx_.empty()) return false;
  int room = 0;
  int unsent = 0;
  socklen_t size = sizeof room;
  if (::getsockopt(fd_, SOL_SOCKET, SO_SNDBUF, &room, &size) != 0 || ::ioctl(fd_, SIOCOUTQ, &unsent) != 0) return false;
  if (unsent > room / 4) return false;
  const auto sent = ::send(fd_, message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0) return false;
  // Nothing can follow half a message.
  if (static_cast<size_t>(sent) < message.size()) ::shutdown(fd_, SHUT_WR);
  return true;
}

void Pair::send_mismatch(const std::vector<char>& message) {
  const std::lock_guard<std::mutex> lock(m_);
  try_send(message);
}

void Pair::compare_sizes(int sender, size_t sent, int receiver, size_t expected) {
  if (sent == expected) return;
  // PyTorch takes a shorter message.
  if (receiver == rank_ && !takes_mismatches_ && sent < expected) return;
  const std::string text = "rank " + std::to_string(sender) + " sent " + std::to_string(sent) + " bytes, rank " +
                           std::to_string(receiver) + " was to receive " + std::to_string(expected) +
                           " (do shapes and dtypes agree?)";
  const Failure mismatch = desync(C10D_MISMATCH_MESSAGE, own_rank_, rank_, text);
  losses_.add_mismatch({mismatch, false});
  const bool notified = try_send(encode_mismatch(mismatch, false));
  if (notified || !takes_mismatches_ || receiver == own_rank_) throw gloo::IoException(text);
}

void Pair::send(gloo::transport::UnboundBuffer* buffer, uint64_t slot, size_t offset, size_t bytes) {
  if (is_message(slot)) {
    const std::lock_guard<std::mutex> lock(m_);
    try {
      if (const auto expected = sizes_.send(slot, bytes)) compare_sizes(own_rank_, bytes, rank_, *expected);
    } catch (const gloo::IoException&) {
      if (ex_ == nullptr) signalException(std::current_exception());
      throw;
    }
  }
  tcp::Pair::send(buffer, slot, offset, bytes);
}

bool Pair::read_preamble() {
  for (;;) {
    switch (receive(&rx_.preamble, sizeof rx_.preamble, rx_.nread)) {
      case Received::nothing_yet:
        return false;
      case Received::end:
        return true;  // The base reads the end of the stream again, and notifies all buffers.
      case Received::all:
        break;
    }
    if (rx_.preamble.opcode != MismatchMessage::kOpcode) break;
    if (!read_mismatch(as_mismatch(rx_))) return false;
    rx_.nread = 0;
  }
  if (rx_.getOpcode() == tcp::Op::NOTIFY_RECV_READY && is_message(rx_.preamble.slot)) {
    const size_t expected = rx_.preamble.length;
    if (const auto sent = sizes_.receive(rx_.preamble.slot, expected)) compare_sizes(own_rank_, *sent, rank_, expected);
    return true;
  }
  if (rx_.getOpcode() != tcp::Op::SEND_UNBOUND_BUFFER || rx_.ubuf) return true;
  const auto posted = localPendingRecv_.find(rx_.preamble.slot);
  if (posted == localPendingRecv_.end() || posted->second.empty()) return true;
  compare_sizes(rank_, rx_.preamble.length, own_rank_, std::get<2>(posted->second.front()));
  return true;
}

bool Pair::read() {
  try {
    return read_preamble() && tcp::Pair::read();
  } catch (const gloo::IoException&) {
    if (ex_ == nullptr) signalException(std::current_exception());
    return false;
  } catch (const std::exception& error) {
    // A send that the peer was ready for has failed, which is known already.
    if (ex_ != nullptr) return false;
    // The peer's message matches nothing that was posted. Unhandled on the loop thread, this would end the process. As
    // a broken connection it fails the op that waits.
    const std::string text = "it sent what this rank does not expect: ";
    signalException(std::make_exception_ptr(gloo::IoException(text + without_location(error.what()))));
    return false;
  }
}

void Pair::changeState(state next) noexcept {
  if (next == CLOSED && state_ == CONNECTED && ex_ != nullptr && !std::exchange(broken_, true)) {
    try {
      losses_.add(rank_, ex_);
      // The base notifies only the buffers in its queues, not those of half-done transfers: ops that wait for these
      // would wait forever. So they are queued again, and all are notified once more.
      if (rx_.ubuf) localPendingRecv_[rx_.preamble.slot].emplace_front(rx_.ubuf, rx_.offset, rx_.nbytes);
      for (const auto& op : tx_) {
        if (op.ubuf) localPendingSend_[op.preamble.slot].emplace_back(op.ubuf, op.offset, op.nbytes);
      }
      // A reset shows the peer that this is not an orderly close.
      reset_at_close(fd_);
      signalException(std::exchange(ex_, nullptr));
      return;
    } catch (...) {  // Out of memory: the engine's time-outs have to end the op.
    }
  }
  tcp::Pair::changeState(next);
}

Pair::Awaited Pair::awaited() {
  const std::lock_guard<std::mutex> lock(m_);
  if (!localPendingRecv_.empty() || rx_.ubuf) return Awaited::data;
  return localPendingSend_.empty() && unsent() == 0 ? Awaited::nothing : Awaited::room;
}

}  // namespace c10d::gloo_shim
