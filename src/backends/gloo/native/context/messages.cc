#include "context/messages.h"

#include <gloo/common/error.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "context/gloo_context.h"
#include "ops/failure.h"

namespace c10d::gloo_shim {

Doorbell::Doorbell() : event_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (event_.get() < 0) throw Failure::of_system("eventfd", errno);
}

void Doorbell::ring() noexcept {
  if (!enabled_) return;
  const uint64_t one = 1;
  [[maybe_unused]] auto sent = ::write(event_.get(), &one, sizeof one);
}

void Doorbell::clear() noexcept {
  uint64_t count = 0;
  [[maybe_unused]] auto got = ::read(event_.get(), &count, sizeof count);
}

bool Message::received(int& rank) {
  const std::lock_guard<std::mutex> lock(m_);
  throwIfException();
  if (recvCompletions_ == 0) return false;
  recvCompletions_--;
  rank = recvRank_;
  return true;
}

bool Message::sent() {
  const std::lock_guard<std::mutex> lock(m_);
  throwIfException();
  if (sendCompletions_ == 0) return false;
  sendCompletions_--;
  return true;
}

bool Message::await_received(Clock::time_point deadline) {
  std::unique_lock<std::mutex> lock(m_);
  return recvCv_.wait_until(lock, deadline, [&] {
    throwIfException();
    return recvCompletions_ > 0;
  });
}

bool Message::await_sent(Clock::time_point deadline) {
  std::unique_lock<std::mutex> lock(m_);
  return sendCv_.wait_until(lock, deadline, [&] {
    throwIfException();
    return sendCompletions_ > 0;
  });
}

bool Messages::start(Op& op, const std::shared_ptr<tcp::Context>& context) {
  const auto& buffer = op.request.opcode == C10D_OP_SEND ? op.inputs[0] : op.outputs[0];
  const auto message = std::make_shared<Message>(context, reinterpret_cast<void*>(buffer.address), buffer.bytes);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (aborted_) throw *aborted_;
    posted_.push_back({&op, message});
    doorbell_.enable(true);
  }
  try {
    post(op, *message);
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto at = find(op);
    if (at == posted_.end() || !has_ended(*at)) return false;
    posted_.erase(at);
    return true;
  } catch (...) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (const auto at = find(op); at != posted_.end()) posted_.erase(at);
    throw;
  }
}

void Messages::post(const Op& op, Message& message) const {
  const auto& request = op.request;
  switch (request.opcode) {
    case C10D_OP_SEND:
      return message.send(request.peer, request.tag, 0, message.size);
    case C10D_OP_RECV:
      return message.recv(request.peer, request.tag, 0, message.size);
    default: {
      std::vector<int> sources;
      for (int rank = 0; rank < size_; rank++) {
        if (rank != rank_) sources.push_back(rank);
      }
      return message.recv(std::move(sources), request.tag, 0, message.size);
    }
  }
}

std::vector<Messages::Posted>::iterator Messages::find(const Op& op) {
  return std::find_if(posted_.begin(), posted_.end(), [&](const Posted& posted) { return posted.op == &op; });
}

void Messages::abort(const Failure& cause) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!aborted_) aborted_ = std::make_unique<Failure>(cause);
  }
  doorbell_.ring();
}

bool Messages::has_ended(Posted& posted) const {
  Op& op = *posted.op;
  if (op.request.opcode == C10D_OP_SEND) return posted.message->sent();
  int rank = -1;
  if (posted.message->received(rank)) {
    op.source = rank;
    return true;
  }
  if (op.request.opcode == C10D_OP_RECV_ANY_SOURCE && size_ > 1) {
    // Gloo does not notify a recv from any rank of losses. It fails when all peers are lost: one of several may leave
    // in good order.
    if (const auto loss = losses_.when_all(size_ - 1)) throw gloo::IoException(*loss);
  }
  return false;
}

}  // namespace c10d::gloo_shim
