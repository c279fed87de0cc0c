// Gloo's TCP transport over connections that we made ourselves, with what the library lacks: knowing which rank was
// lost, waking everybody on abort, and surviving a peer that sends more than was posted.
#pragma once

#include <gloo/context.h>
#include <gloo/transport/tcp/context.h>
#include <gloo/transport/tcp/device.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "gloo_version.h"
#include "messages.h"
#include "mismatch_note.h"
#include "ops/failure.h"
#include "ops/signature.h"
#include "rendezvous.h"

namespace c10d::gloo_shim {

/// Peers whose connection broke, and with which exception: an op that fails with that exception failed because of them.
class LossRecord {
 public:
  /// `rank`: this one.
  explicit LossRecord(int rank) : rank_(rank) {}

  /// Calls `on_reset` when a peer resets its connection, which it does when its group fails: so the failure of one rank
  /// reaches those too that are idle, or wait for somebody else. Who leaves in good order closes it instead.
  void watch(std::function<void(const Failure&)> on_reset);
  void add(int rank, const std::exception_ptr& error);
  /// Calls of a collective differ, as this rank has found or was told: from now on that is why connections break.
  struct Mismatch {
    Failure failure;
    /// One of the two ranks has ended more collectives than the other, so that both may call the same as the rest.
    bool apart;
  };
  void note(const Mismatch& mismatch);
  /// The first of them, in the order of the collectives and then of the ranks that they name, so that all ranks name the same ones;
  /// those that are apart come last.
  std::optional<Mismatch> mismatch() const;
  /// Returns when the rank is lost, or a mismatch known, or at the deadline.
  void await(int rank, std::chrono::steady_clock::time_point deadline) const;
  /// The failure that an op's exception stands for. A collective needs all ranks, so it fails because of the first loss.
  Failure explain(const std::string& what, bool collective) const;
  /// The failure of a collective whose line to `rank` broke with `what`: because of the first loss, or of that one.
  Failure explain_line(int rank, const std::string& what) const;
  /// The exception of the last loss, when that many peers are lost.
  std::optional<std::string> when_all(int peers) const;

 private:
  struct Loss {
    int rank;
    std::string what;
    std::chrono::steady_clock::time_point at;
    /// What the peer has sent has another size than this rank expects.
    bool sizes_differ = false;
  };
  Failure describe(const Loss& loss) const;
  /// Who resets its connections may do so only because of the rank that all have just lost, whereas who has left long
  /// before is not the cause.
  const Loss& cause_of(const Loss& loss) const;
  const int rank_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::vector<Loss> losses_;
  std::optional<Mismatch> mismatch_;
  std::function<void(const Failure&)> on_reset_;
};

class Pair final : public PortablePair {
 public:
  Pair(tcp::Context* context, tcp::Device* device, int rank, std::chrono::milliseconds timeout, LossRecord& losses,
       Doorbell& doorbell);
  ~Pair() override;

  /// Goes on with a connected socket. Throws gloo::Exception when that has gone already.
  void adopt(Fd socket);
  /// Keeps what is to be sent until adopt() is called.
  void expect_later();
  /// Returns when a loss that is just being told to the buffers is on record as well.
  void settle() { const std::lock_guard<std::mutex> lock(m_); }
  /// What the peer owes to ops under way: bytes to receive, or only the taking of ours.
  enum class Debt { none, room, data };
  Debt debt();
  /// Sends a MismatchNote, unless there is no room now. Does not block.
  void send_note(const std::vector<char>& note);

 protected:
  bool expected_later() const override { return expected_later_ && state_ == INITIALIZING; }
  Doorbell& before_events() override;
  bool read() override;
  void changeState(state next) noexcept override;

 private:
  /// Reads the head of a message, as far as it is there, and compares its length with what was posted for it: the base
  /// takes a message that is too short for a whole one, and ends the process over one that is too long. Returns whether
  /// there is more to read. Throws SizesDiffer, or another gloo::IoException.
  bool read_preamble();
  /// Reads a MismatchNote whose preamble has come. Returns whether all of it was there.
  bool read_note();
  /// Receives until `got` is `bytes`, or the stream ends.
  enum class Received { all, nothing_yet, end };
  Received receive(void* to, size_t bytes, size_t& got);
  /// What is to be sent, but for what holds the rest back.
  size_t unsent() const { return tx_.size() - (expected_later_ ? 1 : 0); }

  const int own_rank_;
  LossRecord& losses_;
  Doorbell& doorbell_;
  /// Times that the loop thread has come here.
  std::atomic<uint64_t> events_{0};
  std::vector<char> note_text_;
  size_t note_got_ = 0;
  bool broken_ = false;
  bool expected_later_ = false;
};

class TransportContext final : public tcp::Context {
 public:
  TransportContext(std::shared_ptr<tcp::Device> device, int rank, int size, LossRecord& losses, Doorbell& doorbell)
      : tcp::Context(std::move(device), rank, size), losses_(losses), doorbell_(doorbell) {}
  std::unique_ptr<gloo::transport::Pair>& createPair(int rank) override;
  void abort(const std::string& reason) { signalException(reason); }

 private:
  LossRecord& losses_;
  Doorbell& doorbell_;
};

/// gloo::Context of a group, made from connected sockets.
class Mesh final : public gloo::Context {
 public:
  /// `peers` by rank; the own entry is empty, and those of ranks that connect later, for which adopt() is to be called.
  Mesh(int rank, int size, std::shared_ptr<tcp::Device> device, std::vector<Fd> peers, LossRecord& losses,
       Doorbell& doorbell);
  std::shared_ptr<tcp::Context> transport() const { return std::static_pointer_cast<tcp::Context>(transportContext_); }
  /// Thread-safe. Throws Failure when the connection has gone already.
  void adopt(int peer, Fd connection);
  void abort(const std::string& reason);
  void send_note(const std::vector<char>& note);
  /// Returns when every loss that an op has heard of is on record.
  void settle();
  /// A rank that ops under way wait for, or -1.
  int awaited_rank();

 private:
  Pair& pair(int peer);
};

}  // namespace c10d::gloo_shim
