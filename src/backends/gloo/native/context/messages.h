// Point-to-point ops over Gloo's unbound buffers, without a waiting thread for each.
#pragma once

#include <gloo/transport/tcp/context.h>
#include <gloo/transport/tcp/unbound_buffer.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "ops/op.h"
#include "rendezvous.h"

namespace c10d::gloo_shim {

namespace tcp = gloo::transport::tcp;

class LossRecord;

/// Notifies the engine that messages may have ended: Gloo's loop thread rings it after it handled a connection.
class Doorbell {
 public:
  Doorbell();
  /// Cheap when no message is in flight.
  void ring() noexcept;
  void enable(bool enabled) noexcept { enabled_ = enabled; }
  /// Forgets past rings.
  void clear() noexcept;
  int fd() const { return event_.get(); }

 private:
  std::atomic<bool> enabled_{false};
  Fd event_;
};

/// A posted send or recv.
class Message final : public tcp::UnboundBuffer {
 public:
  using tcp::UnboundBuffer::UnboundBuffer;
  /// Whether the recv has ended, and from which rank. Throws the exception of a broken connection.
  bool received(int& rank);
  /// Whether the send has ended. Throws likewise.
  bool sent();
  /// Waits for either. Returns false at the deadline.
  bool await_received(Clock::time_point deadline);
  bool await_sent(Clock::time_point deadline);
};

/// Messages in flight. start() and progress() may run at the same time.
class Messages {
 public:
  Messages(int rank, int size, const LossRecord& losses) : rank_(rank), size_(size), losses_(losses) {}

  /// Posts a message. Returns whether it ended at once.
  bool start(Op& op, const std::shared_ptr<tcp::Context>& context);
  /// Appends the ops that have ended; `explain` makes a Failure of an exception's text.
  template <class Explain>
  void progress(std::vector<Op*>& ended, Explain explain);
  void abort(const Failure& cause);
  Doorbell& doorbell() { return doorbell_; }

 private:
  struct Posted {
    Op* op;
    // Shared with start(), which may still be posting it when the group fails.
    std::shared_ptr<Message> message;
  };
  /// Throws the exception of a broken connection.
  bool has_ended(Posted& posted) const;
  void post(const Op& op, Message& message) const;
  std::vector<Posted>::iterator find(const Op& op);

  const int rank_;
  const int size_;
  const LossRecord& losses_;
  Doorbell doorbell_;
  std::mutex mutex_;
  std::vector<Posted> posted_;
  std::unique_ptr<Failure> aborted_;
};

template <class Explain>
void Messages::progress(std::vector<Op*>& ended, Explain explain) {
  doorbell_.clear();
  const std::lock_guard<std::mutex> lock(mutex_);
  for (size_t i = 0; i < posted_.size();) {
    Posted& posted = posted_[i];
    bool over = aborted_ != nullptr;
    if (over) {
      posted.op->failure = *aborted_;
    } else {
      try {
        over = has_ended(posted);
      } catch (const std::exception& error) {
        posted.op->failure = explain(error.what());
        over = true;
      }
    }
    if (!over) {
      i++;
      continue;
    }
    ended.push_back(posted.op);
    posted_.erase(posted_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  doorbell_.enable(!posted_.empty());
}

}  // namespace c10d::gloo_shim
