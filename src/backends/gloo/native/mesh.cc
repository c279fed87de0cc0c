#include "mesh.h"

#include <gloo/common/error.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <set>
#include <stdexcept>
#include <tuple>
#include <utility>

namespace c10d::gloo_shim {

namespace {

/// The engine watches the time-outs of ops, so Gloo's own are set out of the way.
constexpr std::chrono::hours kNever{24 * 365};
constexpr int kMaxYields = 1000;
/// How long after a loss the resets of others are taken for its consequence.
constexpr std::chrono::milliseconds kSameCause{500};

/// Gloo's messages begin with "[file:line] ".
std::string without_place(const std::string& what) {
  const auto end = what.find("] ");
  return !what.empty() && what[0] == '[' && end != std::string::npos ? what.substr(end + 2) : what;
}

constexpr const char* kReset = "Connection reset by peer";

bool says(const std::string& what, const char* text) { return what.find(text) != std::string::npos; }

struct SizesDiffer : gloo::IoException {
  using gloo::IoException::IoException;
};

bool is_of_sizes(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const SizesDiffer&) {
    return true;
  } catch (...) {
    return false;
  }
}

std::string message_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& exception) {
    return exception.what();
  } catch (...) {
    return "unknown exception";
  }
}

void reset_at_close(int socket) {
  const linger none{1, 0};
  ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &none, sizeof none);
}

}  // namespace

void LossRecord::watch(std::function<void(const Failure&)> on_reset) {
  const std::lock_guard<std::mutex> lock(mutex_);
  on_reset_ = std::move(on_reset);
}

void LossRecord::add(int rank, const std::exception_ptr& error) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::string what = message_of(error);
  losses_.push_back({rank, what, std::chrono::steady_clock::now(), is_of_sizes(error)});
  changed_.notify_all();
  if (on_reset_ && says(what, kReset)) on_reset_(describe(cause_of(losses_.back())));
}

void LossRecord::note(const Mismatch& mismatch) {
  const auto place = [](const Mismatch& each) {
    auto ranks = each.failure.ranks();
    std::sort(ranks.begin(), ranks.end());
    return std::tuple(each.apart, each.failure.collective(), std::move(ranks));
  };
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!mismatch_ || place(mismatch) < place(*mismatch_)) mismatch_.emplace(mismatch);
  changed_.notify_all();
}

std::optional<LossRecord::Mismatch> LossRecord::mismatch() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return mismatch_;
}

void LossRecord::await(int rank, std::chrono::steady_clock::time_point deadline) const {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_until(lock, deadline, [&] {
    return mismatch_ ||
           std::any_of(losses_.begin(), losses_.end(), [&](const Loss& loss) { return loss.rank == rank; });
  });
}

const LossRecord::Loss& LossRecord::cause_of(const Loss& loss) const {
  if (!says(loss.what, kReset)) return loss;
  return *std::find_if(losses_.begin(), losses_.end(),
                       [&](const Loss& candidate) { return loss.at - candidate.at < kSameCause; });
}

Failure LossRecord::explain(const std::string& what, bool collective) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found =
      std::find_if(losses_.begin(), losses_.end(), [&](const Loss& candidate) { return candidate.what == what; });
  if (found == losses_.end()) return mismatch_ ? mismatch_->failure : Failure(C10D_ERR_NETWORK, without_place(what));
  // Ranks that fail close their connections, which makes others fail. All are connected to all, so the first connection
  // to break is nearest to the cause.
  return describe(collective ? losses_.front() : cause_of(*found));
}

Failure LossRecord::explain_line(int rank, const std::string& what) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return describe(losses_.empty() ? Loss{rank, what, {}, false} : losses_.front());
}

std::optional<std::string> LossRecord::when_all(int peers) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  // With several interfaces, a rank may be lost on each.
  std::set<int> ranks;
  for (const auto& loss : losses_) ranks.insert(loss.rank);
  if (ranks.size() < static_cast<size_t>(peers)) return std::nullopt;
  return losses_.back().what;
}

Failure LossRecord::describe(const Loss& loss) const {
  const std::string rank = "rank " + std::to_string(loss.rank);
  if (loss.sizes_differ) return desync(C10D_MISMATCH_MESSAGE, rank_, loss.rank, without_place(loss.what));
  if (mismatch_) return mismatch_->failure;
  if (says(loss.what, "Connection closed by peer") || says(loss.what, kReset) || says(loss.what, "Broken pipe")) {
    return Failure(C10D_ERR_NETWORK, rank + " closed its connection: its process has ended or its group has failed",
                   loss.rank);
  }
  return Failure(C10D_ERR_NETWORK, "connection to " + rank + " broke: " + without_place(loss.what), loss.rank);
}

Pair::Pair(tcp::Context* context, tcp::Device* device, int rank, std::chrono::milliseconds timeout, LossRecord& losses,
           Doorbell& doorbell)
    : PortablePair(context, device, rank, timeout), own_rank_(context->rank), losses_(losses), doorbell_(doorbell) {
  if constexpr (kPairListens) {
    // The base has opened a listening socket for this pair alone, which nobody will connect to.
    const std::lock_guard<std::mutex> lock(m_);
    device_->unregisterDescriptor(fd_, this);
    ::close(fd_);
    fd_ = -1;
    state_ = INITIALIZING;
  }
}

Pair::~Pair() {
  // The base does the same, but by then the loop thread may still be in what is overridden here.
  const std::lock_guard<std::mutex> lock(m_);
  if (state_ != CLOSED) tcp::Pair::changeState(CLOSED);
  // Closing waits until the loop thread has left this object, but by a condition variable alone, which orders nothing: what that
  // thread did here last has to come before the end of the object.
  (void)events_.load(std::memory_order_acquire);
}

void Pair::adopt(Fd socket) {
  const std::lock_guard<std::mutex> lock(m_);
  if (state_ == CLOSED) {
    // The group has failed meanwhile. A reset tells the peer so; the base ends the process over events of a closed pair.
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
  // The base writes at once only when nothing is waiting to be written.
  tx_.emplace_back();
  expected_later_ = true;
}

Doorbell& Pair::before_events() {
  // The base returns at once when the mutex is taken. Since epoll is level-triggered, the loop thread would then spin
  // until the next scheduler tick (4 ms) while the thread that holds the mutex waits for a core: yield it to that one.
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

bool Pair::read_note() {
  static_assert(sizeof rx_.preamble == sizeof(MismatchNote));
  MismatchNote note;
  std::memcpy(static_cast<void*>(&note), &rx_.preamble, sizeof note);
  if (note.text_bytes > MismatchNote::kMaxText) throw std::length_error("a note that is too long");
  note_text_.resize(note.text_bytes);
  switch (receive(note_text_.data(), note_text_.size(), note_got_)) {
    case Received::nothing_yet:
      return false;
    case Received::end:
      throw gloo::IoException("Read error: Connection closed by peer");
    case Received::all:
      break;
  }
  rx_.nread = note_got_ = 0;
  losses_.note({decode_note(note, note_text_.data()), note.apart != 0});
  return true;
}

void Pair::send_note(const std::vector<char>& note) {
  const std::lock_guard<std::mutex> lock(m_);
  // Not within another message.
  if (state_ != CONNECTED || !tx_.empty()) return;
  int room = 0;
  int unsent = 0;
  socklen_t size = sizeof room;
  if (::getsockopt(fd_, SOL_SOCKET, SO_SNDBUF, &room, &size) != 0 || ::ioctl(fd_, SIOCOUTQ, &unsent) != 0) return;
  if (unsent > room / 4) return;
  const auto sent = ::send(fd_, note.data(), note.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  // What would come next has no place to begin.
  if (sent > 0 && static_cast<size_t>(sent) < note.size()) ::shutdown(fd_, SHUT_WR);
}

bool Pair::read_preamble() {
  for (;;) {
    switch (receive(&rx_.preamble, sizeof rx_.preamble, rx_.nread)) {
      case Received::nothing_yet:
        return false;
      case Received::end:
        return true;  // The base reads the end of the stream again, and tells everybody.
      case Received::all:
        break;
    }
    if (rx_.preamble.opcode != MismatchNote::kOpcode) break;
    if (!read_note()) return false;
  }
  if (rx_.getOpcode() != tcp::Op::SEND_UNBOUND_BUFFER || rx_.ubuf) return true;
  const auto posted = localPendingRecv_.find(rx_.preamble.slot);
  if (posted == localPendingRecv_.end() || posted->second.empty()) return true;
  const size_t expected = std::get<2>(posted->second.front());
  if (rx_.preamble.length == expected) return true;
  throw SizesDiffer("rank " + std::to_string(rank_) + " sent " + std::to_string(rx_.preamble.length) + " bytes, rank " +
                    std::to_string(own_rank_) + " was to receive " + std::to_string(expected) +
                    " (do shapes and dtypes agree?)");
}

bool Pair::read() {
  try {
    return read_preamble() && tcp::Pair::read();
  } catch (const gloo::IoException&) {
    if (ex_ == nullptr) signalException(std::current_exception());
    return false;
  } catch (const std::exception& error) {
    // Sending what the peer is ready for has failed: known already.
    if (ex_ != nullptr) return false;
    // What the peer has sent fits nothing that was posted. Unhandled, this ends the process from the loop thread; as a
    // broken connection it fails the op that waits.
    const std::string text = "it sent what this rank does not expect: ";
    signalException(std::make_exception_ptr(gloo::IoException(text + without_place(error.what()))));
    return false;
  }
}

void Pair::changeState(state next) noexcept {
  if (next == CLOSED && state_ == CONNECTED && ex_ != nullptr && !std::exchange(broken_, true)) {
    try {
      losses_.add(rank_, ex_);
      // The base tells only the buffers that wait for their turn, and forgets those of half-done transfers: who waits
      // for them would wait for ever. So they are put back in line, and all are told again.
      if (rx_.ubuf) localPendingRecv_[rx_.preamble.slot].emplace_front(rx_.ubuf, rx_.offset, rx_.nbytes);
      for (const auto& op : tx_) {
        if (op.ubuf) localPendingSend_[op.preamble.slot].emplace_back(op.ubuf, op.offset, op.nbytes);
      }
      // A reset tells the peer that this is no orderly end.
      reset_at_close(fd_);
      signalException(std::exchange(ex_, nullptr));
      return;
    } catch (...) {  // Out of memory: the engine's own limits have to end the op.
    }
  }
  tcp::Pair::changeState(next);
}

Pair::Debt Pair::debt() {
  const std::lock_guard<std::mutex> lock(m_);
  if (!localPendingRecv_.empty() || rx_.ubuf) return Debt::data;
  return localPendingSend_.empty() && unsent() == 0 ? Debt::none : Debt::room;
}

std::unique_ptr<gloo::transport::Pair>& TransportContext::createPair(int rank) {
  pairs_[rank] = std::make_unique<Pair>(this, device_.get(), rank, kNever, losses_, doorbell_);
  return pairs_[rank];
}

Mesh::Mesh(int rank, int size, std::shared_ptr<tcp::Device> device, std::vector<Fd> peers, LossRecord& losses,
           Doorbell& doorbell)
    : gloo::Context(rank, size) {
  setTimeout(kNever);
  auto transport = std::make_shared<TransportContext>(device, rank, size, losses, doorbell);
  transport->setTimeout(kNever);
  for (int peer = 0; peer < size; peer++) {
    if (peer != rank) transport->createPair(peer);
  }
  device_ = std::move(device);
  transportContext_ = std::move(transport);
  for (int peer = 0; peer < size; peer++) {
    if (peer == rank) continue;
    if (peers[peer].get() >= 0) {
      adopt(peer, std::move(peers[peer]));
    } else {
      pair(peer).expect_later();
    }
  }
}

Pair& Mesh::pair(int peer) { return static_cast<Pair&>(*transportContext_->getPair(peer)); }

void Mesh::adopt(int peer, Fd connection) {
  try {
    pair(peer).adopt(std::move(connection));
  } catch (const std::exception&) {  // Gloo asks the socket for its address, which is gone with the peer.
    throw Failure(C10D_ERR_NETWORK, "rank " + std::to_string(peer) + " left while the group was being made", peer);
  }
}

void Mesh::settle() {
  for (int peer = 0; peer < size; peer++) {
    if (peer != rank) pair(peer).settle();
  }
}

int Mesh::awaited_rank() {
  for (const auto wanted : {Pair::Debt::data, Pair::Debt::room}) {
    for (int peer = 0; peer < size; peer++) {
      if (peer != rank && pair(peer).debt() == wanted) return peer;
    }
  }
  return -1;
}

void Mesh::send_note(const std::vector<char>& note) {
  for (int peer = 0; peer < size; peer++) {
    if (peer != rank) pair(peer).send_note(note);
  }
}

void Mesh::abort(const std::string& reason) { static_cast<TransportContext&>(*transportContext_).abort(reason); }

}  // namespace c10d::gloo_shim
