// A UCC team as a transport of the engine. Each group has a library handle and a context of its own, so that the failure of
// one touches no other.
#include <ucc/api/ucc.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "collectives.h"
#include "engine/transport.h"
#include "library.h"
#include "op_check.h"
#include "peer_watch.h"
#include "rendezvous.h"
#include "team.h"

namespace c10d {

namespace ucc_shim {
namespace {

using std::chrono::milliseconds;

/// Collectives that may be under way at the same time; far fewer than UCC has tags for.
constexpr unsigned kConcurrency = 64;
/// Before the caller gives way to other threads: ranks of one host are mostly just as far.
constexpr int kLooksAtOnce = 4;
/// How often to look after the other ranks while something is under way.
constexpr unsigned kRoundsPerLook = 32;
constexpr milliseconds kLookInterval{1};

/// These two are what a transport says of a connection that is gone.
Failure op_failure(ucc_status_t status) {
  const bool network = status == UCC_ERR_IO_ERROR || status == UCC_ERR_NO_MESSAGE;
  return Failure(network ? C10D_ERR_NETWORK : C10D_ERR_BACKEND, text_of(status, "UCC failed"));
}

class UccTransport final : public Transport {
 public:
  explicit UccTransport(const Config& config) : config_(config), peers_(config_) { library(); }

  void connect(Exchange& exchange) override {
    rendezvous_ = std::make_unique<Rendezvous>(config_, exchange);
    peers_.connect(*rendezvous_, [this] { check_connecting(); });
    team_ = std::make_unique<Team>(*rendezvous_);
    team_->create(config_, [this] { check_connecting(); });
    Op op;
    op.request.opcode = C10D_OP_BARRIER;
    Running barrier(team_->get(), config_.rank, config_.world_size);
    barrier.begin(op);
    ucc_status_t status = UCC_OK;
    while ((status = barrier.test()) == UCC_INPROGRESS) {
      check_connecting();
      team_->progress();
      std::this_thread::yield();
    }
    require(status, "the first barrier of the team failed");
    barrier.end();
    rendezvous_->close();
  }

  void check(const Op& op) const override { check_op(op, config_.rank, config_.world_size); }

  void number(Op& op) noexcept override {
    if (!op.point_to_point()) op.ticket = ++collectives_;
  }

  Start start(Op& op) override {
    if (aborted_) throw Failure(C10D_ERR_ABORTED, "the group was aborted");
    auto running = take_spare();
    const auto failure = attempt([&] {
      running->begin(op);
      const ucc_status_t status = running->test();
      if (status < 0) throw op_failure(status);
    });
    if (failure) {
      abandoned_.push_back(std::move(running));
      throw Failure(*failure);
    }
    if (running->test() == UCC_INPROGRESS) {
      running_.push_back(std::move(running));
      return Start::pending;
    }
    running->end();
    spare_.push_back(std::move(running));
    return Start::done;
  }

  void progress(std::vector<Op*>& ended) override {
    if (aborted_) return give_up(ended);
    if (++rounds_ % kRoundsPerLook == 0) look_at_peers();
    ucc_status_t status = UCC_OK;
    for (int i = 0; i < kLooksAtOnce && ended.empty(); i++) {
      status = team_->progress();
      collect(ended);
    }
    // Otherwise it is the error of one that has ended.
    if (ended.empty()) require(status, "UCC cannot go on");
  }

  unsigned max_concurrency() const override { return kConcurrency; }
  ThreadLevel thread_level() const override { return ThreadLevel::serialized; }

  void abort(const Failure& cause) noexcept override {
    aborted_ = true;
    peers_.fail(cause);
  }

  void close() noexcept override {
    peers_.leave(collectives_);
    if (team_) team_->destroy();
    team_.reset();
  }

 private:
  void check_connecting() const {
    if (aborted_) throw Failure(C10D_ERR_ABORTED, "connecting was cancelled");
    if (Clock::now() >= config_.connect_deadline) throw Failure(C10D_ERR_OP_TIMEOUT, "timed out while making the team");
  }

  /// Throws Failure, which fails the group, if what is under way cannot end any more.
  void look_at_peers() {
    const auto now = Clock::now();
    if (now < next_look_) return;
    next_look_ = now + kLookInterval;
    PeerWatch::Awaited awaited;
    for (const auto& running : running_) {
      const Op& op = running->op();
      awaited.collective = std::max(awaited.collective, op.ticket);
      if (op.point_to_point()) awaited.peers.push_back(op.request.peer);
    }
    if (auto failure = peers_.look(awaited)) throw Failure(*failure);
  }

  std::unique_ptr<Running> take_spare() {
    if (spare_.empty()) return std::make_unique<Running>(team_->get(), config_.rank, config_.world_size);
    auto spare = std::move(spare_.back());
    spare_.pop_back();
    return spare;
  }

  /// Takes out what has ended.
  void collect(std::vector<Op*>& ended) {
    size_t kept = 0;
    for (auto& running : running_) {
      const ucc_status_t status = running->test();
      if (status == UCC_INPROGRESS) {
        running_[kept++].swap(running);
        continue;
      }
      Op& op = running->op();
      ended.push_back(&op);
      if (status == UCC_OK) {
        running->end();
        op.status = C10D_OK;
        spare_.push_back(std::move(running));
      } else {
        describe(op, op_failure(status));
        abandoned_.push_back(std::move(running));
      }
    }
    running_.resize(kept);
  }

  static void describe(Op& op, const Failure& failure) {
    op.status = failure.status();
    op.peer = failure.peer();
    op.error = failure.text();
  }

  /// UCC cannot cancel: nobody calls it any more for this group, and what is under way stays as it is.
  void give_up(std::vector<Op*>& ended) {
    for (auto& running : running_) {
      Op& op = running->op();
      describe(op, Failure(C10D_ERR_ABORTED, "the group was aborted"));
      ended.push_back(&op);
      abandoned_.push_back(std::move(running));
    }
    running_.clear();
  }

  const Config config_;
  PeerWatch peers_;
  uint64_t collectives_ = 0;
  unsigned rounds_ = 0;
  Clock::time_point next_look_;
  std::unique_ptr<Rendezvous> rendezvous_;
  std::unique_ptr<Team> team_;
  std::vector<std::unique_ptr<Running>> running_;
  std::vector<std::unique_ptr<Running>> spare_;
  std::vector<std::unique_ptr<Running>> abandoned_;
  std::atomic<bool> aborted_{false};
};

}  // namespace
}  // namespace ucc_shim

std::unique_ptr<Transport> make_transport(const Config& config) {
  return std::make_unique<ucc_shim::UccTransport>(config);
}

const char* library_version() {
  const auto& library = ucc_shim::load_library();
  static const std::string text =
      library.missing.empty() ? library.get_version_string() : "unavailable: " + library.missing;
  return text.c_str();
}

}  // namespace c10d
