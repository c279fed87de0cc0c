#include "mesh.h"

#include <gloo/common/error.h>
#include <sched.h>
#include <unistd.h>

#include <exception>
#include <utility>

namespace c10d::gloo_shim {

namespace {

/// The engine watches the time-outs of ops, so Gloo's own are set out of the way.
constexpr std::chrono::hours kNever{24 * 365};
constexpr int kMaxYields = 1000;

/// Gloo's messages begin with "[file:line] ".
std::string without_place(const std::string& what) {
  const auto end = what.find("] ");
  return !what.empty() && what[0] == '[' && end != std::string::npos ? what.substr(end + 2) : what;
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

}  // namespace

void LossRecord::add(int rank, const std::string& what) {
  const std::lock_guard<std::mutex> lock(mutex_);
  losses_.push_back({rank, what});
}

Failure LossRecord::explain(const std::string& what) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& loss : losses_) {
    if (loss.what != what) continue;
    const std::string rank = "rank " + std::to_string(loss.rank);
    const bool closed = what.find("Connection closed by peer") != std::string::npos ||
                        what.find("Connection reset by peer") != std::string::npos ||
                        what.find("Broken pipe") != std::string::npos;
    if (closed) {
      return Failure(C10D_ERR_NETWORK, rank + " closed its connection: its process has ended or its group has failed",
                     loss.rank);
    }
    return Failure(C10D_ERR_NETWORK, "connection to " + rank + " broke: " + without_place(what), loss.rank);
  }
  return Failure(C10D_ERR_NETWORK, without_place(what));
}

Pair::Pair(tcp::Context* context, tcp::Device* device, int rank, std::chrono::milliseconds timeout, LossRecord& losses)
    : tcp::Pair(context, device, rank, timeout), losses_(losses) {
  // The base has opened a listening socket for this pair alone, which nobody will connect to.
  const std::lock_guard<std::mutex> lock(m_);
  device_->unregisterDescriptor(fd_, this);
  ::close(fd_);
  fd_ = -1;
  state_ = INITIALIZING;
}

void Pair::adopt(Fd socket) {
  const std::lock_guard<std::mutex> lock(m_);
  fd_ = socket.release();
  handleConnected();
}

void Pair::handleEvents(int events) {
  // The base returns at once when the mutex is taken. Since epoll is level-triggered, the loop thread would then spin
  // until the next scheduler tick (4 ms) while the thread that holds the mutex waits for a core: yield it to that one.
  for (int i = 0; i < kMaxYields; i++) {
    if (m_.try_lock()) {
      m_.unlock();
      break;
    }
    ::sched_yield();
  }
  tcp::Pair::handleEvents(events);
}

bool Pair::read() {
  try {
    return tcp::Pair::read();
  } catch (const std::exception& error) {
    // A peer has sent more than was posted. Unhandled, this ends the process from the loop thread; as a broken
    // connection it fails the op that waits. The buffer that was being read into is among those that wait again.
    if (rx_.ubuf) localPendingRecv_[rx_.preamble.slot].emplace_front(rx_.ubuf, rx_.offset, rx_.nbytes);
    const std::string text = "it sent another number of bytes than this rank expects (do shapes and dtypes agree?): ";
    signalException(std::make_exception_ptr(gloo::IoException(text + without_place(error.what()))));
    return false;
  }
}

void Pair::changeState(state next) noexcept {
  if (next == CLOSED && state_ == CONNECTED && ex_ != nullptr) {
    try {
      losses_.add(rank_, message_of(ex_));
    } catch (...) {  // Without memory for the record the op still fails, only less well explained.
    }
  }
  tcp::Pair::changeState(next);
}

std::unique_ptr<gloo::transport::Pair>& TransportContext::createPair(int rank) {
  pairs_[rank] = std::make_unique<Pair>(this, device_.get(), rank, kNever, losses_);
  return pairs_[rank];
}

Mesh::Mesh(int rank, int size, std::shared_ptr<tcp::Device> device, std::vector<Fd> peers, LossRecord& losses)
    : gloo::Context(rank, size) {
  setTimeout(kNever);
  auto transport = std::make_shared<TransportContext>(device, rank, size, losses);
  transport->setTimeout(kNever);
  for (int peer = 0; peer < size; peer++) {
    if (peer != rank) transport->createPair(peer);
  }
  for (int peer = 0; peer < size; peer++) {
    if (peer != rank) static_cast<Pair&>(*transport->getPair(peer)).adopt(std::move(peers[peer]));
  }
  device_ = std::move(device);
  transportContext_ = std::move(transport);
}

void Mesh::abort(const std::string& reason) { static_cast<TransportContext&>(*transportContext_).abort(reason); }

}  // namespace c10d::gloo_shim
