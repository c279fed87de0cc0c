// A group of MPI processes as a transport of the engine: non-blocking ops only, polled.
#include <mpi.h>
#include <sys/prctl.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "call.h"
#include "collectives.h"
#include "creation/group_creation.h"
#include "direct_all_reduce.h"
#include "engine/transport.h"
#include "messages.h"
#include "op_check.h"
#include "ops/divergence.h"
#include "ops/signature.h"
#include "peers/peer_watch.h"
#include "process/runtime.h"

namespace c10d {

namespace mpi_shim {
namespace {

/// The most collectives in flight at the same time.
constexpr unsigned kMaxConcurrency = 64;
/// How often every op is polled before the thread yields to others.
constexpr int kRoundsPerProgress = 8;
/// MPI cannot cancel most ops, so there is no point in waiting longer for them to end.
constexpr std::chrono::milliseconds kAbortGrace{30};
/// Tags of the monitored barrier.
constexpr int kBarrierTags = 2;

std::vector<int> parse_ranks(const std::string& text) {
  std::vector<int> ranks;
  size_t begin = 0;
  while (begin < text.size()) {
    const auto end = std::min(text.find(',', begin), text.size());
    ranks.push_back(std::atoi(text.substr(begin, end - begin).c_str()));
    begin = end + 1;
  }
  return ranks;
}

class MpiTransport final : public Transport {
 public:
  explicit MpiTransport(const Config& config)
      : config_(config),
        runtime_(Runtime::get()),
        self_(std::make_shared<Membership>(config.rank, parse_ranks(config.options.get("ranks")))),
        peers_(self_, config.rank, config.world_size) {
    if (runtime_.state() != Runtime::State::up) throw Failure(C10D_ERR_INVALID, "MPI has not started in this process");
    const auto ranks = parse_ranks(config.options.get("ranks"));
    if (ranks.size() != static_cast<size_t>(config.world_size)) {
      throw Failure(C10D_ERR_INVALID, "option ranks must name every rank of the group");
    }
    creation_ = std::make_unique<GroupCreation>(
        config_, std::make_shared<CommunicatorSpec>(CommunicatorSpec{config.options.get("name"), ranks, self_}));
    comm_.rank = config.rank;
    comm_.size = config.world_size;
    comm_.first_turn_tag = runtime_.max_tag() - kTurnTags + 1;
    comm_.signature_tag = comm_.first_turn_tag - 1;
    comm_.first_own_tag = comm_.signature_tag - kBarrierTags;
    comm_.mixed = creation_->mixed();
    const auto max_count = std::strtoull(config.options.get("max_count", "0").c_str(), nullptr, 10);
    if (max_count > 0) comm_.max_count = max_count;
    const auto max_direct_ranks = config.options.get("most_direct");
    if (!max_direct_ranks.empty()) comm_.max_direct_ranks = std::atoi(max_direct_ranks.c_str());
  }

  ~MpiTransport() override { runtime_.messenger().forget(*self_); }

  void connect(Exchange& exchange) override {
    // This thread sleeps for microseconds between two polls, and the kernel's default slack is 50 µs.
    ::prctl(PR_SET_TIMERSLACK, 1'000UL);
    creation_->run(
        exchange, [this] { throw_if_aborted(); }, [this](MPI_Comm communicator) { accept(communicator); });
  }

  void check(const Op& op) const override {
    if (op.point_to_point()) {
      check_message(op, comm_.first_own_tag);
    } else {
      check_collective(op, comm_.size);
    }
  }

  void number(Op& op) noexcept override {
    if (!op.point_to_point()) self_->collectives = op.number;
    if (monitored(op)) give_grace(op, comm_.rank);
  }

  Start start(Op& op) override {
    throw_if_aborted();
    bool over = false;
    std::optional<Failure> failure;
    runtime_.call([&] {
      const std::lock_guard<std::mutex> lock(mutex_);
      auto call = fresh_call();
      call->op = &op;
      failure = attempt([&] {
        // An op that waits for no other rank would succeed even if the group has failed on all of them.
        check_peers_before_start(op);
        begin(*call);
        // An op that queues behind earlier ones ends in poll_ops(), which knows those.
        over = !call->unmatched && has_ended(*call, calls_.empty() && !divergence_.reaches(op));
      });
      if (failure) {
        divergence_.note(*failure);
        abandon(std::move(call));
        runtime_.unfinished++;
      } else if (over) {
        recycle(std::move(call));
      } else {
        calls_.push_back(std::move(call));
        runtime_.unfinished++;
      }
    });
    if (failure) throw Failure(*failure);
    return over ? Start::done : Start::pending;
  }

  void progress(std::vector<Op*>& ended) override {
    advanced_ = false;
    runtime_.call([&] { poll_ops(ended); });
  }

  bool advanced() const override { return advanced_; }

  int awaited_peer() override { return awaited_; }

  unsigned max_concurrency() const override { return kMaxConcurrency; }

  std::chrono::milliseconds abort_grace() const override { return kAbortGrace; }

  bool abort_lets_go() const override { return false; }

  /// Does not wait for MPI, where another thread may be stuck: time-outs have to be reported all the same.
  void abort(const Failure& cause) noexcept override {
    {
      const std::lock_guard<std::mutex> lock(cause_mutex_);
      if (aborted_) return;
      cause_.emplace(cause);
      aborted_ = true;
    }
    creation_->wake();
    attempt([&] { cancel_abandoned(); });
    if (!connected_ || !joined_ || peers_.has_failure()) return;
    attempt([&] { runtime_.post([self = self_, cause] { Runtime::get().messenger().notify_failure(*self, cause); }); });
  }

  void close() noexcept override { leave(); }

 private:
  void accept(MPI_Comm communicator) {
    comm_.handle = communicator;
    joined_ = creation_->joined();
    {
      const std::lock_guard<std::mutex> lock(cause_mutex_);
      connected_ = !aborted_;
    }
    if (connected_) return;
    // It was aborted meanwhile, but the others may have the group.
    leave();
    throw_if_aborted();
  }

  static bool monitored(const Op& op) { return (op.request.flags & C10D_FLAG_MONITORED) != 0; }

  void leave() noexcept {
    if (comm_.handle == MPI_COMM_NULL || comm_.handle == MPI_COMM_WORLD) return;
    attempt([&] {
      runtime_.call([&] {
        if (joined_) {
          runtime_.messenger().leave(self_, comm_.handle);
        } else {
          MPI_Comm_free(&comm_.handle);
        }
      });
    });
  }

  void throw_if_aborted() const {
    if (!aborted_) return;
    const std::lock_guard<std::mutex> lock(cause_mutex_);
    throw Failure(*cause_);
  }

  /// Handles messages of ranks that have left or failed.
  void poll_peers() {
    if (!joined_) return;
    peers_.poll();
    if (peers_.failure()) divergence_.note(*peers_.failure());
  }

  void check_peers_before_start(const Op& op) {
    if (!joined_) return;
    peers_.poll_before_start();
    const auto& failure = peers_.failure();
    if (!failure) return;
    divergence_.note(*failure);
    // A mismatch between other ranks does not affect the collectives before it.
    if (!failure->spares(op.number)) throw Failure(*failure);
  }

  std::unique_ptr<Call> fresh_call() {
    if (spare_.empty()) return std::make_unique<Call>();
    auto call = std::move(spare_.back());
    spare_.pop_back();
    return call;
  }

  void recycle(std::unique_ptr<Call> call) {
    call->clear();
    spare_.push_back(std::move(call));
  }

  void begin(Call& call) {
    if (call.op->point_to_point()) {
      begin_message(call, comm_);
      if (!call.unmatched) self_->note_sent_to(call.op->request.peer);
      return;
    }
    const bool compares = !comm_.mixed && comm_.size > 1;
    if (compares) {
      call.agreeing = true;
      call.agreement.begin(*call.op, comm_, comparisons_++);
    }
    // The messages of a monitored barrier are sent together with the signatures, since rank 0 has to name the missing
    // ranks.
    if (monitored(*call.op)) {
      begin_monitored_barrier(call, comm_);
    } else if (!compares) {
      begin_collective(call, comm_);
    }
  }

  /// Whether the op has ended. `first`: no earlier collective is yet to begin or was called differently. Throws
  /// Failure.
  bool has_ended(Call& call, bool first) {
    if (call.unmatched && !has_arrived(call)) return false;
    if (call.agreeing) {
      // Its buffers are not in use, whatever happens to the signatures.
      throw_if_aborted();
      const bool agreed = call.agreement.reached();
      if (monitored(*call.op)) {
        call.agreeing = !agreed;
      } else {
        if (!agreed) return false;
        // No collective succeeds after one that may fail.
        if (!first) return false;
        if (call.agreement.carries_data()) {
          call.agreement.finish(*call.op);
          return true;
        }
        call.agreeing = false;
        advanced_ = true;
        begin_collective(call, comm_);
      }
    }
    for (;;) {
      bool is_pending = false;
      for (auto& request : call.requests) {
        if (request == MPI_REQUEST_NULL || request_ended(*call.op, request)) continue;
        // A monitored barrier counts each rank that has arrived, even if others are missing.
        if (!monitored(*call.op)) return false;
        is_pending = true;
      }
      if (is_pending) return false;
      if (!call.next_step || call.next_step()) break;
      advanced_ = true;
    }
    if (call.agreeing) return false;
    if (call.finish) call.finish();
    return true;
  }

  bool request_ended(Op& op, MPI_Request& request) {
    int over = 0;
    MPI_Status status;
    const int code = MPI_Test(&request, &over, &status);
    if (code != MPI_SUCCESS) {
      int kind = MPI_SUCCESS;
      MPI_Error_class(code, &kind);
      // Only in a mixed group, whose ranks compare nothing.
      if (kind == MPI_ERR_TRUNCATE) {
        throw desync(C10D_MISMATCH_CALL, comm_.rank, -1,
                     "rank " + std::to_string(comm_.rank) +
                         " received more data than it expected: the ranks' tensors differ in size");
      }
      require_success(code, "MPI_Test");
    }
    if (over == 0) return false;
    if (op.point_to_point() && end_message(op, status)) self_->note_received_from(op.source);
    return true;
  }

  void poll_ops(std::vector<Op*>& ended) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!aborted_) poll_peers();
    const int rounds = aborted_ ? 1 : kRoundsPerProgress;
    for (int round = 0; round < rounds && ended.empty() && !calls_.empty(); round++) {
      waiting_.clear();
      // MPI matches collectives by their order on each rank, so they begin in the order of the calls.
      bool first = true;
      int awaited = -1;
      for (size_t i = 0; i < calls_.size();) {
        Op& op = *calls_[i]->op;
        bool over = true;
        const auto failure = attempt([&] {
          over = has_ended(*calls_[i], first && !divergence_.reaches(op));
          if (!over && monitored(op) && !aborted_) watch_monitored_barrier(*calls_[i], comm_);
        });
        if (failure) {
          divergence_.note(*failure);
          op.failure = *failure;
          first = false;
          abandon(std::move(calls_[i]));
        } else if (over) {
          runtime_.unfinished--;
          recycle(std::move(calls_[i]));
        } else {
          add_waiting(*calls_[i++], first, awaited);
          continue;
        }
        ended.push_back(&op);
        calls_.erase(calls_.begin() + static_cast<std::ptrdiff_t>(i));
      }
      // Right away, since another thread may find that an op has timed out.
      awaited_ = awaited;
    }
    if (aborted_) return;
    // Only after the loop, since the collectives before a mismatch go on.
    if (peers_.failure()) throw Failure(*peers_.failure());
    if (peers_.any_left()) peers_.check(calls_);
  }

  /// Whether the message of a receive has arrived. Throws Failure if none will.
  bool has_arrived(Call& call) {
    throw_if_aborted();
    if (match_message(call, comm_, waiting_)) {
      advanced_ = true;
      return true;
    }
    const int peer = call.sender_left ? peers_.lost_peer(*call.op) : -1;
    if (peer >= 0) throw peers_.left(peer);
    return false;
  }

  void add_waiting(const Call& call, bool& first, int& awaited) {
    if (call.unmatched) waiting_.add(*call.op);
    if (first && awaited < 0) awaited = awaited_by(call);
    if (call.agreeing) first = false;
  }

  /// The rank that a collective waits for; -1 if that is not known.
  int awaited_by(const Call& call) const {
    // In a monitored barrier, rank 0 reports which ranks are missing.
    const bool waits_for_answer = monitored(*call.op) && comm_.rank != 0;
    if (waits_for_answer && (!call.agreeing || call.agreement.awaits(0))) return 0;
    return call.agreeing ? call.agreement.awaited() : -1;
  }

  /// Guards the calls that were given up.
  static std::mutex& kept_mutex() {
    static std::mutex mutex;
    return mutex;
  }

  /// Only called when no more ops begin. A later op would receive what the others have sent for an op that was given
  /// up.
  void cancel_abandoned() {
    const std::lock_guard<std::mutex> lock(kept_mutex());
    if (abandoned_.empty()) return;
    runtime_.post([agreements = std::exchange(abandoned_, {})] {
      for (Agreement* agreement : agreements) agreement->cancel();
    });
  }

  /// MPI may still write to the buffers of a failed op, and its peers may never reach it. So it stays unfinished, and
  /// the end of the process does not wait for all ranks then.
  void abandon(std::unique_ptr<Call> call) {
    for (auto& request : call->requests) {
      if (request != MPI_REQUEST_NULL && monitored(*call->op)) MPI_Cancel(&request);
    }
    static auto* kept = new std::vector<std::unique_ptr<Call>>;
    const std::lock_guard<std::mutex> lock(kept_mutex());
    if (call->agreeing && aborted_) call->agreement.cancel();
    if (call->agreeing && !aborted_) abandoned_.push_back(&call->agreement);
    kept->push_back(std::move(call));
  }

  const Config config_;
  Runtime& runtime_;
  Communicator comm_;
  std::unique_ptr<GroupCreation> creation_;

  std::mutex mutex_;
  std::vector<std::unique_ptr<Call>> calls_;
  std::vector<std::unique_ptr<Call>> spare_;
  std::atomic<bool> advanced_{false};
  const std::shared_ptr<Membership> self_;
  PeerWatch peers_;
  Divergence divergence_;
  /// Of the current round.
  Waiting waiting_;
  /// The rank that the first collective in flight waits for.
  std::atomic<int> awaited_{-1};
  /// Collectives whose signatures were exchanged.
  uint64_t comparisons_ = 0;

  /// Never held while MPI is called.
  mutable std::mutex cause_mutex_;
  std::optional<Failure> cause_;
  std::atomic<bool> aborted_{false};
  /// Guarded by kept_mutex().
  std::vector<Agreement*> abandoned_;
  std::atomic<bool> connected_{false};
  std::atomic<bool> joined_{false};
};

}  // namespace
}  // namespace mpi_shim

std::shared_ptr<Transport> make_transport(const Config& config) {
  return std::make_shared<mpi_shim::MpiTransport>(config);
}

std::string probe() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING + 1] = {};
  int length = 0;
  MPI_Get_library_version(text, &length);
  std::string all(text, static_cast<size_t>(length));
  // "Open MPI v4.1.4, package: …", "MPICH Version:<tab>4.0.2<newline>…"
  all.resize(std::min(all.find_first_of(",\n"), all.size()));
  if (const auto at = all.find(" Version:"); at != std::string::npos) {
    all = all.substr(0, at) + " " + all.substr(all.find_first_not_of(" \t", at + 9));
  }
  return all;
}

}  // namespace c10d
