// A UCC team as a transport of the engine. Each group has a library handle and a context of its own, so that the failure of
// one touches no other.
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
#include "peers/peer_watch.h"
#include "rendezvous.h"
#include "team.h"

namespace c10d {

namespace ucc_shim {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

/// Collectives that may be under way at the same time; far fewer than UCC has tags for.
constexpr unsigned kConcurrency = 64;
/// Before the caller gives way to other threads: ranks of one host are mostly just as far.
constexpr int kLooksAtOnce = 4;
/// How long after an error of UCC's the end of the process behind it may be seen: its memory goes first, its sockets later, and
/// the processors may be busy.
constexpr milliseconds kLossGrace{1'000};
/// How often to look after the other ranks while something is under way.
constexpr unsigned kRoundsPerLook = 32;
constexpr milliseconds kLookInterval{1};
/// UCX copies less than that through memory of its own.
constexpr uint64_t kReadFromPeer = 4 << 10;
/// How long to go on looking when nothing happens: while somebody has not come yet, and while the data is on its way.
constexpr microseconds kPatience{100};
constexpr microseconds kPatienceForData{5'000};
/// Bytes that surely go over in a microsecond.
constexpr uint64_t kSlowestRate = 256;
/// After that, pauses of a part of the time waited so far, so that nothing is noticed late by more than that.
constexpr int kWaitedPerPause = 8;
constexpr microseconds kShortestPause{20};
constexpr microseconds kLongestPause{400};
/// Whoever comes ends the pause.
constexpr microseconds kLongestPauseForRank{2'000};

/// How long to go on after a mismatch, so that the other ranks find it too.
constexpr milliseconds kOthersCompare{50};

/// These two are what a transport says of a connection that is gone.
Failure op_failure(ucc_status_t status) {
  // Unless UCX has logged what it has run out of.
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
    // One that waits for nobody would succeed also when the group has failed on all other ranks.
    auto failure = attempt([&] { look_at_peers(false, &op); });
    if (!failure && !is_held(op)) failure = attempt([&] { done = begin(op, *running); });
    if (failure && !hides(*failure, &op)) {
      abandoned_.push_back(std::move(running));
      throw Failure(reason_of(divergence_.note(*failure)));
    }
    if (is_held(op)) running->stand_for(op);
    if (!done) {
      running_.push_back(std::move(running));
      note_oldest();
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
      if (!hides(failure)) {
        if (!held_.hidden()) throw;
        return tell(ended);
      }
    }
    if (held_.known()) wait_for_others(ended);
  }

  int event_fd() override { return peers_.descriptor(); }

  int awaited_peer() override {
    const uint64_t oldest = oldest_;
    if (oldest == 0) return -1;
    const int here = ledger_ ? ledger_->latecomer(oldest) : -1;
    return here >= 0 ? here : peers_.latecomer(oldest);
  }

  unsigned max_concurrency() const override { return kConcurrency; }
  ThreadLevel thread_level() const override { return ThreadLevel::serialized; }

  /// Peers of this host read large data out of the memory of this process themselves.
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
    const auto& here = peers_.here();
    if (here.size() > 1) {
      const int memory = peers_.share_memory(Ledger::bytes(here.size(), config_.world_size), stop);
      ledger_ = std::make_unique<Ledger>(memory, here, config_);
    }
    team_ = std::make_unique<Team>(*rendezvous_);
    team_->create(config_, stop);
    if (!all_here()) team_->create_second(config_, stop);
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
    // Errors of transports that UCX has done without.
    take_logged_error();
    rendezvous_->close();
    peers_.set_made();
  }

  /// While connecting. Throws Failure, which ends it.
  void check_connecting() {
    if (cancellation_.cancelled()) throw Failure(C10D_ERR_ABORTED, "connecting was cancelled");
    const auto now = Clock::now();
    if (now >= next_look_) {
      next_look_ = now + kLookInterval;
      peers_.require_all();
    }
    if (now >= config_.connect_deadline) throw Failure(C10D_ERR_OP_TIMEOUT, "timed out while making the team");
  }

  /// Begins an op. Returns whether it has ended. Throws Failure.
  bool begin(Op& op, Running& running) {
    if (ledger_ && !op.point_to_point()) {
      ledger_->enter(op, running.entry);
      held_.enter(op);
      // Ranks of other hosts have to hear the same, at the same place in the order.
      if (!all_here()) running.entry.missing.clear();
      compare(running.entry);
    }
    op.point_to_point() || all_here() ? running.begin(op) : running.begin_comparison(op);
    if (ledger_) wake_those_who_wait(op);
    const bool done = advance(running, running_.size());
    if (done) running.end();
    return done;
  }

  /// One round of what is under way. Throws Failure.
  void drive(std::vector<Op*>& ended) {
    // Back too early from a pause: nothing has happened yet, but for what somebody else has woken this thread for.
    const bool paused = paused_ && !peers_.stirred();
    const bool woken = paused_ && !paused;
    if (woken) end_pause();
    if (++rounds_ % kRoundsPerLook == 0 || woken) look_at_peers(woken);
    ucc_status_t status = UCC_OK;
    for (int i = 0; i < kLooksAtOnce && ended.empty(); i++) {
      status = team_->progress();
      collect(ended);
    }
    if (!ended.empty()) return stay_awake();
    // Otherwise it is the error of one that has ended.
    if (status < 0 && !held_.hidden()) throw Failure(reason_of(op_failure(status)));
    if (!paused) pause_if_idle();
  }

  /// Whether a failure, met by `next` if that is an op that begins, is a mismatch that the engine is not to be told of yet, since
  /// other ranks of this host still need this one. Where a collective before it is under way here, the engine is told and waits
  /// for that one, of which wait_for_others() withholds the end.
  bool hides(const Failure& failure, const Op* next = nullptr) {
    if (!ledger_ || !all_here() || failure.collective() == 0) return false;
    divergence_.note(failure);
    held_.note(failure);
    if (held_.hidden() || held_.told()) return held_.hidden() && (next == nullptr || divergence_.reaches(*next));
    bool reached = next != nullptr && divergence_.reaches(*next);
    for (const auto& running : running_) reached = reached || (running && divergence_.reaches(running->op()));
    if (reached && !is_in_earlier() && others_are_in_earlier()) {
      held_.hide();
    } else {
      held_.tell();
    }
    return held_.hidden();
  }

  /// Whether an op stays as it is until the engine knows of the mismatch.
  bool is_held(const Op& op) const { return held_.hidden() && divergence_.reaches(op); }

  /// Whether a collective before the mismatch is under way on this rank.
  bool is_in_earlier() const {
    return std::any_of(running_.begin(), running_.end(), [&](const auto& running) {
      return running && !running->op().point_to_point() && !divergence_.reaches(running->op());
    });
  }

  /// Whether another rank of this host has not ended yet a collective before the mismatch that this one has come to.
  bool others_are_in_earlier() const {
    const uint64_t ticket = held_.ticket_before();
    const auto& here = ledger_->here();
    for (size_t place = 0; place < here.size(); place++) {
      const bool out = here[place] == config_.rank || peers_.is_out(here[place]);
      if (!out && !ledger_->has_left(place, ticket)) return true;
    }
    return false;
  }

  /// Once a mismatch is known: puts off the failure of the group while other ranks are in a collective before it.
  void wait_for_others(std::vector<Op*>& ended) {
    auto deadline = Clock::time_point::max();
    for (const auto& running : running_) deadline = std::min(deadline, running->op().deadline);
    const bool waits = held_.hidden() || withheld_ != nullptr;
    const bool over = !others_are_in_earlier() || (waits && held_.is_due(deadline));
    if (held_.hidden() && over) return tell(ended);
    if (withheld_ != nullptr && over) ended.push_back(std::exchange(withheld_, nullptr));
    if (over || withheld_ != nullptr || ended.empty() || is_in_earlier()) return;
    const Op& last = *ended.back();
    if (last.failure || last.point_to_point() || divergence_.reaches(last)) return;
    held_.put_off();
    withheld_ = ended.back();
    ended.pop_back();
  }

  /// Ends what the mismatch reaches, so that the engine knows it.
  void tell(std::vector<Op*>& ended) {
    held_.tell();
    size_t kept = 0;
    for (auto& running : running_) {
      Op& op = running->op();
      if (!divergence_.reaches(op)) {
        running_[kept++].swap(running);
        continue;
      }
      op.failure = held_.failure();
      ended.push_back(&op);
      abandoned_.push_back(std::move(running));
    }
    running_.resize(kept);
    note_oldest();
  }

  /// Throws Failure, which fails the group, if what is under way, or is about to begin, cannot end any more.
  void look_at_peers(bool at_once, const Op* next = nullptr) {
    const auto now = Clock::now();
    if (now < next_look_ && !at_once) return;
    next_look_ = now + kLookInterval;
    PeerWatch::Awaited awaited;
    awaited.oldest = oldest_;
    for (const auto& running : running_) {
      const Op& op = running->op();
      if (is_held(op)) continue;
      awaited.collective = std::max(awaited.collective, op.ticket);
      if (!op.point_to_point()) continue;
      // Data of which some has come from another host comes after its sender has left, too.
      const bool comes = op.request.opcode == C10D_OP_RECV && !running->awaits_header();
      if (!comes || peers_.is_here(op.request.peer)) awaited.peers.push_back(op.request.peer);
    }
    if (next != nullptr && !next->point_to_point()) awaited.collective = next->ticket;
    // What a rank has sent before it left can still be received, but nobody takes what is sent to it.
    if (next != nullptr && next->request.opcode == C10D_OP_SEND) awaited.peers.push_back(next->request.peer);
    const auto failure = peers_.look(awaited, now);
    // A rank that has failed may have done so because of what it called.
    compare_calls();
    // What two others have called differently leaves the collectives before it alone.
    const bool earlier = next != nullptr && failure && failure->spares(next->number);
    if (failure && !earlier) throw Failure(divergence_.note(*failure));
  }

  /// Compares what is under way with what the others have called since. Returns whether somebody has come. Throws Failure.
  bool compare_calls() {
    bool somebody = false;
    if (!ledger_) return somebody;
    for (const auto& running : running_) {
      if (!running || running->op().point_to_point() || divergence_.reaches(running->op())) continue;
      const auto failure = attempt([&] { somebody |= ledger_->compare(running->entry); });
      if (failure) throw Failure(divergence_.note(*failure));
    }
    return somebody;
  }

  /// Compares a collective with what the others have called since. Throws Failure, about the first one that differs.
  void compare(Ledger::Entry& entry) {
    const auto failure = attempt([&] { ledger_->compare(entry); });
    if (!failure) return;
    compare_calls();
    throw Failure(*failure);
  }

  /// Of an error of UCC's, what other ranks have to do with it, if that is known.
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

  void wake_those_who_wait(const Op& op) {
    // What was posted is to be seen by whoever falls asleep after this. A fence would do, but for ThreadSanitizer.
    posted_.exchange(true, std::memory_order_seq_cst);
    const auto& here = ledger_->here();
    for (size_t place = 0; place < here.size(); place++) {
      if (here[place] == config_.rank || (op.point_to_point() && here[place] != op.request.peer)) continue;
      if (ledger_->take_asleep(place)) peers_.wake(here[place]);
    }
  }

  void stay_awake() {
    idle_since_ = Clock::time_point::max();
    end_pause();
  }

  void end_pause() {
    if (!paused_) return;
    paused_ = false;
    if (ledger_) ledger_->set_asleep(false);
    peers_.nap(microseconds::zero());
  }

  /// Makes the thread that drives sleep on the descriptor when it has looked long enough.
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
      // The engine has given way a hundred times by now and does not any more.
      ::sched_yield();
      return;
    }
    paused_ = true;
    if (ledger_) {
      ledger_->set_asleep(true);
      if (compare_calls()) return stay_awake();
    }
    const bool woken_by_rank = all_here() && !held_.known() && for_data == microseconds::zero();
    peers_.nap(
        std::clamp(idle / kWaitedPerPause, kShortestPause, woken_by_rank ? kLongestPauseForRank : kLongestPause));
  }

  Assembly assembly() const {
    return {config_.rank, config_.world_size, team_->second(), team_->get(), gathers_calls_};
  }

  bool all_here() const { return peers_.here().size() == static_cast<size_t>(config_.world_size); }

  /// As far as can be known here.
  bool have_all_come(const Running& running) const {
    const bool message = running.op().point_to_point();
    if (!all_here()) return !message && !running.compares();
    return ledger_ && (message ? !running.awaits_header() : running.entry.missing.empty());
  }

  /// How long it may take to carry through what all ranks have come to; zero if there is none of that.
  microseconds patience_for_data() const {
    microseconds longest{0};
    for (const auto& running : running_) {
      if (is_held(running->op()) || !have_all_come(*running)) continue;
      const Op& op = running->op();
      longest = std::max(longest, kPatienceForData + microseconds(bytes_of(op) / kSlowestRate));
    }
    return longest;
  }

  void note_oldest() {
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
      if (go_on(running, position)) return true;
      if (running.compares()) return false;
      // All have come, just now.
      stay_awake();
      status = running.test();
    }
    if (status == UCC_INPROGRESS) return false;
    // Before an error of UCC's, which calls that do not fit together may end in.
    if (ledger_ && !running.op().point_to_point() && !running.entry.missing.empty()) compare(running.entry);
    if (status < 0) throw op_failure(status);
    if (logged_error()) check_log(running);
    if (!running.awaits_header()) {
      check_sources(running);
      if (ledger_ && !running.op().point_to_point()) ledger_->leave(running.entry);
      return true;
    }
    for (size_t i = 0; i < position; i++) {
      const auto& earlier = *running_[i];
      if (earlier.awaits_header() && earlier.same_lane(running)) return false;
    }
    return !running.take_header();
  }

  /// Of an op whose transfer has failed, UCC sets the status to UCC_OK when the rest has ended (seen in all-gathers of 1.9), so
  /// the log is all that there is. Throws Failure, unless that was about a rank that a message has nothing to do with.
  void check_log(const Running& running) {
    const Op& op = running.op();
    const Failure failure = reason_of(op_failure(UCC_ERR_NO_MESSAGE));
    if (!op.point_to_point() || failure.peer() < 0 || failure.peer() == op.request.peer) throw Failure(failure);
  }

  /// Takes a collective whose ranks have compared what they call further. Returns whether it has ended. Throws Failure.
  bool go_on(Running& running, size_t position) {
    // One after the other, as what is called after a difference must not end well.
    for (size_t i = 0; i < position; i++) {
      if (running_[i]->compares()) return false;
    }
    try {
      return running.go_on();
    } catch (const Failure& failure) {
      if (failure.status() == C10D_ERR_DESYNC) let_others_compare();
      throw;
    }
  }

  /// What this rank has sent and passes on may not be on its way yet.
  void let_others_compare() {
    for (const auto until = Clock::now() + kOthersCompare; Clock::now() < until; ::sched_yield()) team_->progress();
  }

  /// UCC reports an op as done even if its data could not be read because the process it lies in has died. That process had
  /// not ended the op then. Throws Failure.
  void check_sources(const Running& running) {
    const Op& op = running.op();
    if (bytes_of(op) < kReadFromPeer) return;
    const bool message = op.point_to_point();
    if (message ? op.request.opcode == C10D_OP_SEND : !ledger_) return;
    for (const int rank : peers_.here()) {
      if (rank == config_.rank || (message && rank != op.request.peer) || peers_.memory_is_there(rank)) continue;
      if (!message && ledger_->has_left(*ledger_->place_of(rank), op.ticket)) continue;
      if (peers_.has_taken_leave(rank)) continue;
      throw Failure(C10D_ERR_NETWORK, "rank " + std::to_string(rank) + " has gone: its process has ended", rank);
    }
  }

  static uint64_t bytes_of(const Op& op) {
    uint64_t bytes = 0;
    for (const auto* buffers : {&op.inputs, &op.outputs}) {
      for (const auto& buffer : *buffers) bytes += buffer.bytes;
    }
    return bytes;
  }

  /// Takes out what has ended.
  void collect(std::vector<Op*>& ended) {
    size_t kept = 0;
    for (auto& running : running_) {
      bool done = false;
      const auto failure = attempt([&] {
        done = advance(*running, kept);
        if (done) running->end();
      });
      const bool held = failure && hides(*failure, &running->op());
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
    note_oldest();
  }

  /// UCC cannot cancel: nobody calls it any more for this group, and what is under way stays as it is.
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

  /// UCC and peers may go on with what these hold.
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
  /// Not with the option of tests that makes a small group compare as a large one does.
  const bool gathers_calls_;
  std::unique_ptr<Ledger> ledger_;
  uint64_t collectives_ = 0;
  Divergence divergence_;
  HeldMismatch held_;
  /// The last collective before the mismatch, which has ended well without the engine knowing it yet.
  Op* withheld_ = nullptr;
  unsigned rounds_ = 0;
  Clock::time_point next_look_;
  /// Since when nothing has happened, if anything is under way.
  Clock::time_point idle_since_ = Clock::time_point::max();
  bool paused_ = false;
  /// The first collective that is under way.
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
