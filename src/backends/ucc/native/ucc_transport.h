// A UCC team as a transport of the engine. Each group has a library handle and a context of its own, so that the
// failure of one does not affect the others.
#pragma once

#include <ucc/api/ucc.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "collectives.h"
#include "comparison/call_table.h"
#include "comparison/held_mismatch.h"
#include "engine/transport.h"
#include "library.h"
#include "log.h"
#include "op_check.h"
#include "ops/divergence.h"
#include "peers/peer_watch.h"
#include "rendezvous.h"
#include "team.h"

namespace c10d::ucc_shim {

class UccTransport final : public Transport {
 public:
  explicit UccTransport(const Config& config)
      : config_(config),
        peers_(config_),
        gathers_calls_(ComparisonSetup::suits_gathering(config.world_size) && config.options.get("hashes") != "1") {
    library();
  }

  ~UccTransport() override { keep_abandoned(); }

  void connect(Exchange& exchange) override;

  void check(const Op& op) const override { check_op(op); }

  void number(Op& op) noexcept override;
  Start start(Op& op) override;

  void progress(std::vector<Op*>& ended) override;

  int event_fd() override { return peers_.descriptor(); }

  int awaited_peer() override;

  unsigned max_concurrency() const override { return kConcurrency; }
  ThreadLevel thread_level() const override { return ThreadLevel::serialized; }

  /// Peers on this host read large data directly from the memory of this process.
  bool abort_lets_go() const override { return false; }

  void abort(const Failure& cause) noexcept override;
  void close() noexcept override;

 private:
  /// Collectives that may be in flight at the same time; far fewer than UCC has tags for.
  static constexpr unsigned kConcurrency = 64;
  /// How long after an error of UCC's the exit of the process that caused it may become visible: the kernel frees its
  /// memory first and closes its sockets later, and the machine may be busy.
  static constexpr std::chrono::milliseconds kLossGrace{1'000};
  /// How often to check on the other ranks.
  static constexpr std::chrono::milliseconds kPeerCheckInterval{1};

  // In ucc_transport_connect.cc.
  void make(Exchange& exchange);
  /// Called while connecting. Throws Failure to end that.
  void check_connecting();

  // In ucc_transport.cc.
  /// Begins an op. Returns whether it has ended. Throws Failure.
  bool begin(Op& op, Running& running);
  /// Drives the ops in flight for one round. Throws Failure.
  void drive(std::vector<Op*>& ended);
  /// Whether an op that stands at `position` of running_ has ended. Throws Failure.
  bool advance(Running& running, size_t position);
  /// Resumes a collective whose comparison has ended. Returns whether the collective has ended. Throws Failure.
  bool resume(Running& running, size_t position);
  /// Moves the ops that have ended to `ended`.
  void collect(std::vector<Op*>& ended);
  /// Throws Failure, which fails the group, if an op that is in flight or about to begin cannot end any more.
  void check_peers(bool at_once, const Op* next = nullptr);
  /// Compares what is in flight with what the others have called since. Returns whether a rank has arrived. Throws
  /// Failure.
  bool compare_calls();
  /// Compares a collective with what the others have called since. Throws Failure, about the first one that differs.
  void compare(CallTable::Entry& entry);
  /// When a transfer of an op has failed, UCC sets its status to UCC_OK once the rest has ended (seen in all-gathers of
  /// 1.9). Only the log shows the error. Throws Failure, unless the op is a message and the error is about a rank other
  /// than its peer.
  void check_log(const Running& running);
  /// UCC reports an op as done even if its data could not be read because the process that owns it has died. In that
  /// case that process had not ended the op. Throws Failure.
  void check_sources(const Running& running);
  /// The failure of another rank that caused an error of UCC's, if that is known; otherwise the error.
  Failure reason_of(const Failure& failure);
  /// UCC cannot cancel an op. It is not called any more for this group, and the ops in flight are abandoned.
  void give_up(std::vector<Op*>& ended);
  /// UCC and peers may still use what these hold.
  void keep_abandoned();
  void wake_sleeping_ranks(const Op& op);
  void stay_awake();
  void end_pause();
  void update_oldest();
  std::unique_ptr<Running> take_spare();
  ComparisonSetup comparison_setup() const;
  static uint64_t bytes_of(const Op& op);
  bool all_local() const { return peers_.local_ranks().size() == static_cast<size_t>(config_.world_size); }

  // In ucc_transport_idle.cc.
  /// Makes the driving thread sleep on the descriptor when it has polled for long enough.
  void pause_if_idle();
  /// As far as this rank can know.
  bool have_all_arrived(const Running& running) const;
  /// How long the ops that all ranks have reached may take; zero if there are none.
  std::chrono::microseconds patience_for_data() const;

  // In ucc_transport_mismatch.cc.
  /// Whether a failure is a mismatch that is not reported to the engine yet, since other ranks of this host still need
  /// this one. `next` is the op that begins and met the failure, if there is one. If an earlier collective is in flight
  /// here, the mismatch is reported: the engine waits for that collective, and wait_for_others() withholds its end.
  bool holds_back(const Failure& failure, const Op* next = nullptr);
  /// Whether an op is left alone until the mismatch is reported to the engine.
  bool is_held(const Op& op) const { return mismatch_.held() && divergence_.reaches(op); }
  /// Whether a collective before the mismatch is in flight on this rank.
  bool is_in_earlier() const;
  /// Whether another rank of this host has not yet ended a collective before the mismatch that this one has reached.
  bool others_are_in_earlier() const;
  /// Once a mismatch is known: postpones the failure of the group while other ranks are in an earlier collective.
  void wait_for_others(std::vector<Op*>& ended);
  /// Ends the ops that the mismatch reaches, which reports it to the engine.
  void report_mismatch(std::vector<Op*>& ended);
  /// Drives UCC for a while, since what this rank sends and forwards may not have been sent yet.
  void let_others_compare();

  const Config config_;
  Log log_;
  Cancellation cancellation_;
  PeerWatch peers_;
  /// False with the option for tests that makes a small group compare hashes as a large one does.
  const bool gathers_calls_;
  std::unique_ptr<CallTable> call_table_;
  uint64_t collectives_ = 0;
  Divergence divergence_;
  HeldMismatch mismatch_;
  /// The last collective before the mismatch, which succeeded; its end is not reported to the engine yet.
  Op* withheld_ = nullptr;
  unsigned rounds_ = 0;
  Clock::time_point next_peer_check_;
  /// Since when nothing has happened, if anything is in flight.
  Clock::time_point idle_since_ = Clock::time_point::max();
  bool paused_ = false;
  /// The first collective in flight.
  std::atomic<uint64_t> oldest_{0};
  std::atomic<bool> posted_{false};
  std::unique_ptr<Rendezvous> rendezvous_;
  std::unique_ptr<Team> team_;
  std::vector<std::unique_ptr<Running>> running_;
  std::vector<std::unique_ptr<Running>> spare_;
  std::vector<std::unique_ptr<Running>> abandoned_;
};

}  // namespace c10d::ucc_shim
