// A UCC team as a transport of the engine. Each group has a library handle and a context of its own, so that the
// failure of one does not affect the others.
#include <sched.h>
#include <ucc/api/ucc.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "collectives.h"
#include "comparison/call_table.h"
#include "comparison/held_mismatch.h"
#include "engine/divergence.h"
#include "engine/transport.h"
#include "library.h"
#include "log.h"
#include "op_check.h"
#include "peers/peer_failures.h"
#include "peers/peer_watch.h"
#include "rendezvous.h"
#include "team.h"

namespace c10d {

namespace ucc_shim {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

/// Collectives that may be in flight at the same time; far fewer than UCC has tags for.
constexpr unsigned kConcurrency = 64;
/// Polls before the caller yields to other threads: ranks of one host mostly reach an op at the same time.
constexpr int kPollsPerRound = 4;
/// How long after an error of UCC's the exit of the process that caused it may become visible: the kernel frees its
/// memory first and closes its sockets later, and the machine may be busy.
constexpr milliseconds kLossGrace{1'000};
/// How often to check on the other ranks while something is in flight.
constexpr unsigned kRoundsPerPeerCheck = 32;
constexpr milliseconds kPeerCheckInterval{1};
/// Smaller data is copied by UCX through memory of its own.
constexpr uint64_t kReadFromPeer = 4 << 10;
/// How long to go on polling when nothing happens: while a rank has not arrived yet, and while the data is in flight.
constexpr microseconds kPatience{100};
constexpr microseconds kPatienceForData{5'000};
/// Bytes that are transferred in a microsecond in any case.
constexpr uint64_t kSlowestRate = 256;
/// After that, each pause is this fraction of the time waited so far, which also limits how late an event is noticed.
constexpr int kWaitedPerPause = 8;
constexpr microseconds kShortestPause{20};
constexpr microseconds kLongestPause{400};
/// Where a rank that arrives ends the pause.
constexpr microseconds kLongestPauseForRank{2'000};

/// How long to go on driving UCC after a mismatch, so that the other ranks find it too.
constexpr milliseconds kOthersCompare{50};

/// A transport of UCX reports a lost connection by one of these two.
Failure op_failure(ucc_status_t status) {
  // Unless UCX has logged a shortage.
  const bool network = !logged_error() && (status == UCC_ERR_IO_ERROR || status == UCC_ERR_NO_MESSAGE);
  return failure_of(status, "UCC failed", network ? C10D_ERR_NETWORK : C10D_ERR_BACKEND);
}

class UccTransport final : public Transport {
 public:
  explicit UccTransport(const Config& config)
      : config_(config),
        peers_(config_),
        gathers_calls_(Assembly::suits_gathering(config.world_size) && config.options.get("hashes") != "1") {
    library();
  }

  ~UccTransport() override { keep_abandoned(); }

  void connect(Exchange& exchange) override {
    const Log::Call call(log_);
    const auto failure = attempt([&] { make(exchange); });
    if (!failure) return;
    // UCX notices the end of a process a little before its socket shows it.
    const bool unknown = failure->peer() < 0 && !failure->harmless() && failure->status() != C10D_ERR_ABORTED;
    for (const auto until = Clock::now() + kLossGrace; unknown && !cancellation_.cancelled() && Clock::now() < until;) {
      peers_.require_all();
      std::this_thread::sleep_for(milliseconds(1));
    }
    throw Failure(*failure);
  }

  void check(const Op& op) const override { check_op(op); }

  void number(Op& op) noexcept override {
    if (!op.point_to_point()) op.ticket = ++collectives_;
  }

  Start start(Op& op) override {
    const Log::Call call(log_);
    if (cancellation_.cancelled()) throw Failure(C10D_ERR_ABORTED, "the group was aborted");
    auto running = take_spare();
    bool done = false;
    // An op that waits for no other rank would succeed even if the group has failed on all of them.
    auto failure = attempt([&] { check_peers(false, &op); });
    if (!failure && !is_held(op)) failure = attempt([&] { done = begin(op, *running); });
    if (failure && !holds_back(*failure, &op)) {
      abandoned_.push_back(std::move(running));
      throw Failure(reason_of(divergence_.note(*failure)));
    }
    if (is_held(op)) running->hold(op);
    if (!done) {
      running_.push_back(std::move(running));
      update_oldest();
      stay_awake();
      return Start::pending;
    }
    spare_.push_back(std::move(running));
    return Start::done;
  }

  void progress(std::vector<Op*>& ended) override {
    const Log::Call call(log_);
    if (cancellation_.cancelled()) return give_up(ended);
    try {
      drive(ended);
    } catch (const Failure& failure) {
      if (!holds_back(failure)) {
        if (!mismatch_.held()) throw;
        return report_mismatch(ended);
      }
    }
    if (mismatch_.known()) wait_for_others(ended);
  }

  int event_fd() override { return peers_.descriptor(); }

  int awaited_peer() override {
    const uint64_t oldest = oldest_;
    if (oldest == 0) return -1;
    const int local = call_table_ ? call_table_->late_rank(oldest) : -1;
    return local >= 0 ? local : peers_.late_rank(oldest);
  }

  unsigned max_concurrency() const override { return kConcurrency; }
  ThreadLevel thread_level() const override { return ThreadLevel::serialized; }

  /// Peers on this host read large data directly from the memory of this process.
  bool abort_lets_go() const override { return false; }

  void abort(const Failure& cause) noexcept override {
    cancellation_.cancel();
    peers_.fail(cause);
  }

  void close() noexcept override {
    peers_.leave(collectives_);
    if (team_) team_->destroy();
    team_.reset();
  }

 private:
  void make(Exchange& exchange) {
    const auto stop = [this] { check_connecting(); };
    rendezvous_ = std::make_unique<Rendezvous>(config_, exchange, stop);
    peers_.connect(*rendezvous_, exchange, cancellation_, stop);
    const auto& local_ranks = peers_.local_ranks();
    if (local_ranks.size() > 1) {
      const int memory = peers_.share_memory(CallTable::bytes(local_ranks.size(), config_.world_size), stop);
      call_table_ = std::make_unique<CallTable>(memory, local_ranks, config_);
    }
    team_ = std::make_unique<Team>(*rendezvous_);
    team_->create(config_, stop);
    if (!all_local()) team_->create_second(config_, stop);
    Op op;
    op.request.opcode = C10D_OP_BARRIER;
    Running barrier(assembly());
    barrier.begin(op);
    ucc_status_t status = UCC_OK;
    while ((status = barrier.test()) == UCC_INPROGRESS) {
      check_connecting();
      team_->progress();
      std::this_thread::yield();
    }
    require(status, "the first barrier of the team failed");
    barrier.end();
    // Errors of transports that UCX did not need.
    take_logged_error();
    rendezvous_->close();
    peers_.set_made();
  }

  /// Called while connecting. Throws Failure to end that.
  void check_connecting() {
    if (cancellation_.cancelled()) throw Failure(C10D_ERR_ABORTED, "connecting was cancelled");
    const auto now = Clock::now();
    if (now >= next_peer_check_) {
      next_peer_check_ = now + kPeerCheckInterval;
      peers_.require_all();
    }
    if (now >= config_.connect_deadline) throw Failure(C10D_ERR_OP_TIMEOUT, "timed out while making the team");
  }

  /// Begins an op. Returns whether it has ended. Throws Failure.
  bool begin(Op& op, Running& running) {
    if (call_table_ && !op.point_to_point()) {
      call_table_->begin(op, running.entry);
      mismatch_.enter(op);
      // Ranks of other hosts have to get the same failure, at the same place in the order.
      if (!all_local()) running.entry.missing.clear();
      compare(running.entry);
    }
    op.point_to_point() || all_local() ? running.begin(op) : running.begin_comparison(op);
    if (call_table_) wake_sleeping_ranks(op);
    const bool done = advance(running, running_.size());
    if (done) running.end();
    return done;
  }

  /// Drives the ops in flight for one round. Throws Failure.
  void drive(std::vector<Op*>& ended) {
    // Called before the pause is over: nothing has happened yet except what another thread woke this one for.
    const bool paused = paused_ && !peers_.has_events();
    const bool woken = paused_ && !paused;
    if (woken) end_pause();
    if (++rounds_ % kRoundsPerPeerCheck == 0 || woken) check_peers(woken);
    ucc_status_t status = UCC_OK;
    for (int i = 0; i < kPollsPerRound && ended.empty(); i++) {
      status = team_->progress();
      collect(ended);
    }
    if (!ended.empty()) return stay_awake();
    // Otherwise it is the error of an op that has ended.
    if (status < 0 && !mismatch_.held()) throw Failure(reason_of(op_failure(status)));
    if (!paused) pause_if_idle();
  }

  /// Whether a failure is a mismatch that is not reported to the engine yet, since other ranks of this host still need
  /// this one. `next` is the op that begins and met the failure, if there is one. If an earlier collective is in flight
  /// here, the mismatch is reported: the engine waits for that collective, and wait_for_others() withholds its end.
  bool holds_back(const Failure& failure, const Op* next = nullptr) {
    if (!call_table_ || !all_local() || failure.collective() == 0) return false;
    divergence_.note(failure);
    mismatch_.record(failure);
    if (mismatch_.held() || mismatch_.reported())
      return mismatch_.held() && (next == nullptr || divergence_.reaches(*next));
    bool reached = next != nullptr && divergence_.reaches(*next);
    for (const auto& running : running_) reached = reached || (running && divergence_.reaches(running->op()));
    if (reached && !is_in_earlier() && others_are_in_earlier()) {
      mismatch_.hold();
    } else {
      mismatch_.report();
    }
    return mismatch_.held();
  }

  /// Whether an op is left alone until the mismatch is reported to the engine.
  bool is_held(const Op& op) const { return mismatch_.held() && divergence_.reaches(op); }

  /// Whether a collective before the mismatch is in flight on this rank.
  bool is_in_earlier() const {
    return std::any_of(running_.begin(), running_.end(), [&](const auto& running) {
      return running && !running->op().point_to_point() && !divergence_.reaches(running->op());
    });
  }

  /// Whether another rank of this host has not yet ended a collective before the mismatch that this one has reached.
  bool others_are_in_earlier() const {
    const uint64_t ticket = mismatch_.ticket_before();
    const auto& ranks = call_table_->local_ranks();
    for (size_t place = 0; place < ranks.size(); place++) {
      const bool out = ranks[place] == config_.rank || peers_.is_out(ranks[place]);
      if (!out && !call_table_->has_ended(place, ticket)) return true;
    }
    return false;
  }

  /// Once a mismatch is known: postpones the failure of the group while other ranks are in an earlier collective.
  void wait_for_others(std::vector<Op*>& ended) {
    auto deadline = Clock::time_point::max();
    for (const auto& running : running_) deadline = std::min(deadline, running->op().deadline);
    const bool waits = mismatch_.held() || withheld_ != nullptr;
    const bool over = !others_are_in_earlier() || (waits && mismatch_.is_due(deadline));
    if (mismatch_.held() && over) return report_mismatch(ended);
    if (withheld_ != nullptr && over) ended.push_back(std::exchange(withheld_, nullptr));
    if (over || withheld_ != nullptr || ended.empty() || is_in_earlier()) return;
    const Op& last = *ended.back();
    if (last.failure || last.point_to_point() || divergence_.reaches(last)) return;
    mismatch_.postpone();
    withheld_ = ended.back();
    ended.pop_back();
  }

  /// Ends the ops that the mismatch reaches, which reports it to the engine.
  void report_mismatch(std::vector<Op*>& ended) {
    mismatch_.report();
    size_t kept = 0;
    for (auto& running : running_) {
      Op& op = running->op();
      if (!divergence_.reaches(op)) {
        running_[kept++].swap(running);
        continue;
      }
      op.failure = mismatch_.failure();
      ended.push_back(&op);
      abandoned_.push_back(std::move(running));
    }
    running_.resize(kept);
    update_oldest();
  }

  /// Throws Failure, which fails the group, if an op that is in flight or about to begin cannot end any more.
  void check_peers(bool at_once, const Op* next = nullptr) {
    const auto now = Clock::now();
    if (now < next_peer_check_ && !at_once) return;
    next_peer_check_ = now + kPeerCheckInterval;
    PeerWatch::Awaited awaited;
    awaited.oldest = oldest_;
    for (const auto& running : running_) {
      const Op& op = running->op();
      if (is_held(op)) continue;
      awaited.collective = std::max(awaited.collective, op.ticket);
      if (!op.point_to_point()) continue;
      // If part of the data arrived from another host, the rest arrives even after its sender has left.
      const bool arrives = op.request.opcode == C10D_OP_RECV && !running->awaits_header();
      if (!arrives || peers_.is_local(op.request.peer)) awaited.peers.push_back(op.request.peer);
    }
    if (next != nullptr && !next->point_to_point()) awaited.collective = next->ticket;
    // What a rank sent before it left can still be received, but a rank that has left receives nothing.
    if (next != nullptr && next->request.opcode == C10D_OP_SEND) awaited.peers.push_back(next->request.peer);
    const auto failure = peers_.check(awaited, now);
    // A rank may have failed because of what it called.
    compare_calls();
    // A mismatch between two other ranks does not affect the collectives before it.
    const bool earlier = next != nullptr && failure && failure->spares(next->number);
    if (failure && !earlier) throw Failure(divergence_.note(*failure));
  }

  /// Compares what is in flight with what the others have called since. Returns whether a rank has arrived. Throws
  /// Failure.
  bool compare_calls() {
    bool any_arrived = false;
    if (!call_table_) return any_arrived;
    for (const auto& running : running_) {
      if (!running || running->op().point_to_point() || divergence_.reaches(running->op())) continue;
      const auto failure = attempt([&] { any_arrived |= call_table_->compare(running->entry); });
      if (failure) throw Failure(divergence_.note(*failure));
    }
    return any_arrived;
  }

  /// Compares a collective with what the others have called since. Throws Failure, about the first one that differs.
  void compare(CallTable::Entry& entry) {
    const auto failure = attempt([&] { call_table_->compare(entry); });
    if (!failure) return;
    compare_calls();
    throw Failure(*failure);
  }

  /// The failure of another rank that caused an error of UCC's, if that is known; otherwise the error.
  Failure reason_of(const Failure& failure) {
    if (failure.harmless() || failure.peer() >= 0 || failure.status() == C10D_ERR_ABORTED) return failure;
    // UCX notices the death of a process a little before its socket shows it.
    const auto until = Clock::now() + kLossGrace;
    auto lost = peers_.find_lost();
    while (!lost && !cancellation_.cancelled() && Clock::now() < until) {
      std::this_thread::sleep_for(milliseconds(1));
      lost = peers_.find_lost();
    }
    return lost.value_or(failure);
  }

  void wake_sleeping_ranks(const Op& op) {
    // A rank that falls asleep after this has to see what was posted. A fence would do, but ThreadSanitizer does not
    // support it.
    posted_.exchange(true, std::memory_order_seq_cst);
    const auto& ranks = call_table_->local_ranks();
    for (size_t place = 0; place < ranks.size(); place++) {
      if (ranks[place] == config_.rank || (op.point_to_point() && ranks[place] != op.request.peer)) continue;
      if (call_table_->take_asleep(place)) peers_.wake(ranks[place]);
    }
  }

  void stay_awake() {
    idle_since_ = Clock::time_point::max();
    end_pause();
  }

  void end_pause() {
    if (!paused_) return;
    paused_ = false;
    if (call_table_) call_table_->set_asleep(false);
    peers_.set_timer(microseconds::zero());
  }

  /// Makes the driving thread sleep on the descriptor when it has polled for long enough.
  void pause_if_idle() {
    const auto now = Clock::now();
    if (idle_since_ == Clock::time_point::max()) idle_since_ = now;
    const auto idle = std::chrono::duration_cast<microseconds>(now - idle_since_);
    if (idle < kPatience) return;
    if (compare_calls()) {
      idle_since_ = now;
      return;
    }
    const auto for_data = patience_for_data();
    if (idle < for_data) {
      // The engine has yielded a hundred times by now and does not do so any more.
      ::sched_yield();
      return;
    }
    paused_ = true;
    if (call_table_) {
      call_table_->set_asleep(true);
      if (compare_calls()) return stay_awake();
    }
    const bool woken_by_rank = all_local() && !mismatch_.known() && for_data == microseconds::zero();
    peers_.set_timer(
        std::clamp(idle / kWaitedPerPause, kShortestPause, woken_by_rank ? kLongestPauseForRank : kLongestPause));
  }

  Assembly assembly() const {
    return {config_.rank, config_.world_size, team_->second(), team_->get(), gathers_calls_};
  }

  bool all_local() const { return peers_.local_ranks().size() == static_cast<size_t>(config_.world_size); }

  /// As far as this rank can know.
  bool have_all_arrived(const Running& running) const {
    const bool message = running.op().point_to_point();
    if (!all_local()) return !message && !running.compares();
    return call_table_ && (message ? !running.awaits_header() : running.entry.missing.empty());
  }

  /// How long the ops that all ranks have reached may take; zero if there are none.
  microseconds patience_for_data() const {
    microseconds longest{0};
    for (const auto& running : running_) {
      if (is_held(running->op()) || !have_all_arrived(*running)) continue;
      const Op& op = running->op();
      longest = std::max(longest, kPatienceForData + microseconds(bytes_of(op) / kSlowestRate));
    }
    return longest;
  }

  void update_oldest() {
    uint64_t oldest = 0;
    for (const auto& running : running_) {
      if (!running->op().point_to_point()) {
        oldest = running->op().ticket;
        break;
      }
    }
    oldest_.store(oldest, std::memory_order_relaxed);
  }

  std::unique_ptr<Running> take_spare() {
    if (spare_.empty()) return std::make_unique<Running>(assembly());
    auto spare = std::move(spare_.back());
    spare_.pop_back();
    return spare;
  }

  /// Whether an op that stands at `position` of running_ has ended. Throws Failure.
  bool advance(Running& running, size_t position) {
    if (divergence_.reaches(running.op())) return false;
    ucc_status_t status = running.test();
    if (running.compares() && status == UCC_OK) {
      if (logged_error()) check_log(running);
      if (resume(running, position)) return true;
      if (running.compares()) return false;
      // All ranks have just arrived.
      stay_awake();
      status = running.test();
    }
    if (status == UCC_INPROGRESS) return false;
    // Before an error of UCC's, which calls that do not match may cause.
    if (call_table_ && !running.op().point_to_point() && !running.entry.missing.empty()) compare(running.entry);
    if (status < 0) throw op_failure(status);
    if (logged_error()) check_log(running);
    if (!running.awaits_header()) {
      check_sources(running);
      if (call_table_ && !running.op().point_to_point()) call_table_->end(running.entry);
      return true;
    }
    for (size_t i = 0; i < position; i++) {
      const auto& earlier = *running_[i];
      if (earlier.awaits_header() && earlier.same_channel(running)) return false;
    }
    return !running.take_header();
  }

  /// When a transfer of an op has failed, UCC sets its status to UCC_OK once the rest has ended (seen in all-gathers of
  /// 1.9). Only the log shows the error. Throws Failure, unless the op is a message and the error is about a rank other
  /// than its peer.
  void check_log(const Running& running) {
    const Op& op = running.op();
    const Failure failure = reason_of(op_failure(UCC_ERR_NO_MESSAGE));
    if (!op.point_to_point() || failure.peer() < 0 || failure.peer() == op.request.peer) throw Failure(failure);
  }

  /// Resumes a collective whose comparison has ended. Returns whether the collective has ended. Throws Failure.
  bool resume(Running& running, size_t position) {
    // One after the other, since no collective after a mismatch may succeed.
    for (size_t i = 0; i < position; i++) {
      if (running_[i]->compares()) return false;
    }
    try {
      return running.resume();
    } catch (const Failure& failure) {
      if (failure.status() == C10D_ERR_DESYNC) let_others_compare();
      throw;
    }
  }

  /// What this rank sends and forwards may not have been sent yet.
  void let_others_compare() {
    for (const auto until = Clock::now() + kOthersCompare; Clock::now() < until; ::sched_yield()) team_->progress();
  }

  /// UCC reports an op as done even if its data could not be read because the process that owns it has died. In that
  /// case that process had not ended the op. Throws Failure.
  void check_sources(const Running& running) {
    const Op& op = running.op();
    if (bytes_of(op) < kReadFromPeer) return;
    const bool message = op.point_to_point();
    if (message ? op.request.opcode == C10D_OP_SEND : !call_table_) return;
    for (const int rank : peers_.local_ranks()) {
      if (rank == config_.rank || (message && rank != op.request.peer) || peers_.memory_is_readable(rank)) continue;
      if (!message && call_table_->has_ended(*call_table_->place_of(rank), op.ticket)) continue;
      if (peers_.has_sent_last_message(rank)) continue;
      throw process_ended(rank);
    }
  }

  static uint64_t bytes_of(const Op& op) {
    uint64_t bytes = 0;
    for (const auto* buffers : {&op.inputs, &op.outputs}) {
      for (const auto& buffer : *buffers) bytes += buffer.bytes;
    }
    return bytes;
  }

  /// Moves the ops that have ended to `ended`.
  void collect(std::vector<Op*>& ended) {
    size_t kept = 0;
    for (auto& running : running_) {
      bool done = false;
      const auto failure = attempt([&] {
        done = advance(*running, kept);
        if (done) running->end();
      });
      const bool held = failure && holds_back(*failure, &running->op());
      if (held || (!done && !failure)) {
        running_[kept++].swap(running);
        continue;
      }
      Op& op = running->op();
      ended.push_back(&op);
      if (failure) {
        op.failure = reason_of(divergence_.note(*failure));
        abandoned_.push_back(std::move(running));
      } else {
        spare_.push_back(std::move(running));
      }
    }
    if (kept == running_.size()) return;
    running_.resize(kept);
    update_oldest();
  }

  /// UCC cannot cancel an op. It is not called any more for this group, and the ops in flight are abandoned.
  void give_up(std::vector<Op*>& ended) {
    if (withheld_ != nullptr) ended.push_back(std::exchange(withheld_, nullptr));
    for (auto& running : running_) {
      Op& op = running->op();
      op.failure = Failure(C10D_ERR_ABORTED, "the group was aborted");
      ended.push_back(&op);
      abandoned_.push_back(std::move(running));
    }
    running_.clear();
  }

  /// UCC and peers may still use what these hold.
  void keep_abandoned() {
    static auto* kept = new std::vector<std::unique_ptr<Running>>;
    static std::mutex kept_mutex;
    const std::lock_guard<std::mutex> lock(kept_mutex);
    std::move(abandoned_.begin(), abandoned_.end(), std::back_inserter(*kept));
  }

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

}  // namespace
}  // namespace ucc_shim

std::shared_ptr<Transport> make_transport(const Config& config) {
  return std::make_shared<ucc_shim::UccTransport>(config);
}

std::string probe() {
  const auto& library = ucc_shim::load_library();
  if (!library.missing.empty()) {
    throw Failure::of_shortage(library.missing, system_error_in(library.missing), C10D_ERR_UNAVAILABLE);
  }
  return library.get_version_string();
}

}  // namespace c10d
