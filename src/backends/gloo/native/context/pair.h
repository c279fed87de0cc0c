// Gloo's connection to one peer, over a socket that we connected ourselves. It adds what the library lacks: it records
// which rank was lost, wakes all waiters on abort, and compares the sizes of messages with those of their receives. The
// library takes a message that is too short for a complete one, and ends the process of the receiver over one that is
// too long.
#pragma once

#include <gloo/transport/tcp/context.h>
#include <gloo/transport/tcp/device.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <vector>

#include "context/gloo_version.h"
#include "context/loss_record.h"
#include "context/message_sizes.h"
#include "context/messages.h"
#include "context/mismatch_message.h"
#include "mesh/socket.h"

namespace c10d::gloo_shim {

class Pair final : public PortablePair {
 public:
  /// `takes_mismatches`: whether the peer understands a MismatchMessage.
  Pair(tcp::Context* context, tcp::Device* device, int rank, std::chrono::milliseconds timeout, bool takes_mismatches,
       LossRecord& losses, Doorbell& doorbell);
  ~Pair() override;

  /// Takes over a connected socket. Throws gloo::Exception if the peer has closed it already.
  void adopt(Fd socket);
  /// Queues what is sent until adopt() is called.
  void expect_later();
  /// Returns when a loss that buffers are being notified of is on record.
  void settle() { const std::lock_guard<std::mutex> lock(m_); }
  /// What ops in flight await from the peer: data, or only room for data of ours.
  enum class Awaited { nothing, room, data };
  Awaited awaited();
  /// Sends an encoded MismatchMessage if the peer understands it and there is room. Does not block.
  void send_mismatch(const std::vector<char>& message);
  /// Throws gloo::IoException if the peer has announced a receive of another size.
  void send(gloo::transport::UnboundBuffer* buffer, uint64_t slot, size_t offset, size_t bytes) override;

 protected:
  bool expected_later() const override { return expected_later_ && state_ == INITIALIZING; }
  Doorbell& before_events() override;
  bool read() override;
  void changeState(state next) noexcept override;

 private:
  /// Reads as much as has arrived of a message's preamble. Compares the sizes of a message that this rank has called,
  /// when the peer announces the receive, and of one that arrives. Returns whether there is more to read. Throws
  /// gloo::IoException.
  bool read_preamble();
  /// Throws gloo::IoException if they differ, after notifying the peer. A peer that is not notified has to be sent the
  /// message, so that it sees the difference itself.
  void compare_sizes(int sender, size_t sent, int receiver, size_t expected);
  /// Reads the text of a MismatchMessage. Returns whether all of it has arrived.
  bool read_mismatch(const MismatchMessage& message);
  /// Sends an encoded MismatchMessage, with the mutex held. Returns whether all of it is on its way.
  bool try_send(const std::vector<char>& message);
  /// Receives until `got` is `bytes`, or the stream ends.
  enum class Received { all, nothing_yet, end };
  Received receive(void* to, size_t bytes, size_t& got);
  /// Messages to send, without the placeholder of expect_later().
  size_t unsent() const { return tx_.size() - (expected_later_ ? 1 : 0); }

  const int own_rank_;
  const bool takes_mismatches_;
  LossRecord& losses_;
  Doorbell& doorbell_;
  /// Counts the events that the loop thread handled.
  std::atomic<uint64_t> events_{0};
  MessageSizes sizes_;
  std::vector<char> mismatch_text_;
  size_t mismatch_got_ = 0;
  bool broken_ = false;
  bool expected_later_ = false;
};

}  // namespace c10d::gloo_shim
