// Gloo's connection to one peer, over a socket that we connected ourselves. It adds what the library lacks: it records
// which rank was lost, wakes all waiters on abort, and survives a peer that sends more than was posted.
#pragma once

#include <gloo/transport/tcp/context.h>
#include <gloo/transport/tcp/device.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <vector>

#include "context/gloo_version.h"
#include "context/loss_record.h"
#include "context/messages.h"
#include "mesh/socket.h"

namespace c10d::gloo_shim {

class Pair final : public PortablePair {
 public:
  Pair(tcp::Context* context, tcp::Device* device, int rank, std::chrono::milliseconds timeout, LossRecord& losses,
       Doorbell& doorbell);
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
  /// Sends an encoded MismatchMessage if there is room. Does not block.
  void send_mismatch(const std::vector<char>& message);

 protected:
  bool expected_later() const override { return expected_later_ && state_ == INITIALIZING; }
  Doorbell& before_events() override;
  bool read() override;
  void changeState(state next) noexcept override;

 private:
  /// Reads as much as has arrived of a message's preamble, and compares its length with that of the posted receive. The
  /// base takes a message that is too short for a complete one, and ends the process over one that is too long. Returns
  /// whether there is more to read. Throws SizesDiffer, or another gloo::IoException.
  bool read_preamble();
  /// Reads a MismatchMessage after its preamble. Returns whether all of it has arrived.
  bool read_mismatch();
  /// Receives until `got` is `bytes`, or the stream ends.
  enum class Received { all, nothing_yet, end };
  Received receive(void* to, size_t bytes, size_t& got);
  /// Messages to send, without the placeholder of expect_later().
  size_t unsent() const { return tx_.size() - (expected_later_ ? 1 : 0); }

  const int own_rank_;
  LossRecord& losses_;
  Doorbell& doorbell_;
  /// Counts the events that the loop thread handled.
  std::atomic<uint64_t> events_{0};
  std::vector<char> mismatch_text_;
  size_t mismatch_got_ = 0;
  bool broken_ = false;
  bool expected_later_ = false;
};

}  // namespace c10d::gloo_shim
