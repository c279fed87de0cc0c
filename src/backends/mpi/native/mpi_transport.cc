// A group of MPI processes as a transport of the engine: non-blocking ops only, polled.
#include <mpi.h>
#include <sys/prctl.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "call.h"
#include "collectives.h"
#include "creation/pending_communicator.h"
#include "creation/turns.h"
#include "direct_all_reduce.h"
#include "engine/divergence.h"
#include "engine/rank_values.h"
#include "engine/signature.h"
#include "engine/transport.h"
#include "messages.h"
#include "peers/peer_messenger.h"
#include "process/mpi_host.h"
#include "process/runtime.h"

namespace c10d {

namespace mpi_shim {
namespace {

/// Collectives under way at the same time.
constexpr unsigned kMaxConcurrency = 64;
/// Looks at every op before another thread of this core gets its turn.
constexpr int kRoundsPerProgress = 8;
/// What MPI cannot cancel does not end; waiting for it helps nobody.
constexpr std::chrono::milliseconds kAbortGrace{30};
/// Tags of the monitored barrier.
constexpr int kBarrierTags = 2;
/// How many looks at the ops there are between two for a notice.
constexpr uint64_t kLooksPerNotice = 16;
/// At most how often an op that begins looks for one itself.
constexpr std::chrono::milliseconds kHearingInterval{1};
/// A look takes one message in, and what other ranks have sent for their ops stands before their notices.
constexpr int kHearingLooks = 64;
/// How long after the word of a rank's leaving, and how many looks, messages from it may still be on their way.
constexpr std::chrono::milliseconds kLeftGrace{200};
constexpr uint64_t kLeftLooks = 16;

/// A Worker that has ended settles no turn.
constexpr Clock::duration kWorkerSettles = std::chrono::seconds(10);

/// MPI does not often take longer to make a communicator.
constexpr std::chrono::milliseconds kSlowMaking{200};

/// How long after its deadline a group waits for an earlier one to be given up, which says who is missing. The engine waits a little
/// longer.
constexpr std::chrono::milliseconds kGivenUpWait{150};

/// How long before the deadline of connecting a rank asks itself who has come.
constexpr Clock::duration kAskBefore = std::chrono::seconds(2);

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

/// What is known of a rank that has left.
struct Departure {
  Notice::Kind kind;
  uint64_t collectives;
  Clock::time_point heard;
  uint64_t look;
};

class MpiTransport final : public Transport {
 public:
  explicit MpiTransport(const Config& config)
      : config_(config),
        runtime_(Runtime::get()),
        ranks_(parse_ranks(config.options.get("ranks"))),
        mixed_(config.options.get("mixed") == "1"),
        of_worker_(config.options.get("thread") == "worker"),
        self_(std::make_shared<Membership>(config.rank, ranks_)),
        formation_(std::make_shared<Formation>(Formation{config.options.get("name"), ranks_, self_})),
        departures_(ranks_.size()) {
    if (runtime_.state() != Runtime::State::up) throw Failure(C10D_ERR_INVALID, "MPI is not up in this process");
    if (ranks_.size() != static_cast<size_t>(config.world_size)) {
      throw Failure(C10D_ERR_INVALID, "option ranks must name every rank of the group");
    }
    comm_.rank = config.rank;
    comm_.size = config.world_size;
    comm_.first_turn_tag = runtime_.max_tag() - kTurnTags + 1;
    comm_.signature_tag = comm_.first_turn_tag - 1;
    comm_.first_own_tag = comm_.signature_tag - kBarrierTags;
    comm_.mixed = mixed_;
    const auto max_count = std::strtoull(config.options.get("max_count", "0").c_str(), nullptr, 10);
    if (max_count > 0) comm_.max_count = max_count;
    const auto most_direct = config.options.get("most_direct");
    if (!most_direct.empty()) comm_.most_direct = std::atoi(most_direct.c_str());
    const auto turn = config.options.get("turn");
    host_settles_ = !turn.empty();
    turn_ = host_settles_ ? std::strtoull(turn.c_str(), nullptr, 10) : runtime_.turns().take();
    runtime_.turns().enter(turn_, formation_, config.connect_deadline);
  }

  ~MpiTransport() override {
    runtime_.notices().forget(*self_);
    // It was given up before it came to connecting.
    if (!turn_over_) runtime_.turns().end(turn_);
  }

  void connect(Exchange& exchange) override {
    // This thread will sleep for microseconds between two looks; the kernel's default slack is fifty of them.
    ::prctl(PR_SET_TIMERSLACK, 1'000UL);
    const auto failure = attempt([&] {
      await_turn();
      make_communicator(exchange);
    });
    turn_over_ = true;
    if (failure) runtime_.turns().note_missing(turn_, failure->ranks());
    if (making_) {
      // The making ends the turn.
    } else if (failure && undecided_ && host_settles_) {
      runtime_.leave_turn_undecided(turn_, of_worker_ ? kWorkerSettles : Clock::duration::max(), formation_);
    } else {
      runtime_.turns().end(turn_);
    }
    if (failure) throw Failure(*failure);
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
        // One that waits for nobody would succeed also when the group has failed on all other ranks.
        hear_before_start(op);
        begin(*call);
        // What queues behind earlier ops ends in look(), which knows of those.
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
    runtime_.call([&] { look(ended); });
  }

  bool advanced() const override { return advanced_; }

  int awaited_peer() override { return awaited_; }

  unsigned max_concurrency() const override { return kMaxConcurrency; }

  std::chrono::milliseconds abort_grace() const override { return kAbortGrace; }

  bool abort_lets_go() const override { return false; }

  /// Does not wait for MPI, where another thread may be stuck: what has run out of time has to be told all the same.
  void abort(const Failure& cause) noexcept override {
    std::shared_ptr<Making> making;
    {
      const std::lock_guard<std::mutex> lock(cause_mutex_);
      if (aborted_) return;
      cause_.emplace(cause);
      aborted_ = true;
      making = making_;
    }
    if (making) making->wake();
    attempt([&] { cancel_abandoned(); });
    if (!connected_ || !joined_ || heard_) return;
    attempt([&] { runtime_.post([self = self_, cause] { Runtime::get().notices().tell_failure(*self, cause); }); });
  }

  void close() noexcept override { leave(); }

 private:
  static bool monitored(const Op& op) { return (op.request.flags & C10D_FLAG_MONITORED) != 0; }

  void leave() noexcept {
    if (comm_.handle == MPI_COMM_NULL || comm_.handle == MPI_COMM_WORLD) return;
    attempt([&] {
      runtime_.call([&] {
        if (joined_) {
          runtime_.notices().leave(self_, comm_.handle);
        } else {
          MPI_Comm_free(&comm_.handle);
        }
      });
    });
  }

  void await_turn() {
    const auto deadline = config_.connect_deadline;
    std::optional<Turns::Obstacle> late_for;
    runtime_.turns().await(turn_, [&](const Turns::Obstacle& obstacle) {
      throw_if_aborted();
      const auto now = Clock::now();
      if (now < deadline) return;
      const bool is_told_soon = obstacle.missing.empty() && obstacle.deadline <= deadline + kGivenUpWait;
      if (!is_told_soon || now >= deadline + kGivenUpWait) throw out_of_turn(obstacle);
      late_for = obstacle;
    });
    if (late_for) throw out_of_turn(*late_for);
  }

  Failure out_of_turn(const Turns::Obstacle& obstacle) const {
    std::string text = "timed out waiting for ";
    if (obstacle.group.empty()) {
      text += "groups that are made before this one";
    } else {
      text += "group \"" + obstacle.group + "\", which is made before this one";
    }
    if (!obstacle.missing.empty()) {
      const bool one = obstacle.missing.size() == 1;
      text += ": its " + text_of_ranks(obstacle.missing) + (one ? " has" : " have") + " not come to make it";
    } else {
      text += "; which ranks have not come there is not known yet";
    }
    std::vector<int32_t> missing;
    for (int rank = 0; rank < comm_.size; rank++) {
      const auto& all = obstacle.missing_in_world;
      if (std::find(all.begin(), all.end(), ranks_[static_cast<size_t>(rank)]) != all.end()) missing.push_back(rank);
    }
    return Failure::of_ranks(C10D_ERR_OP_TIMEOUT, text, missing);
  }

  void throw_if_aborted() const {
    if (!aborted_) return;
    const std::lock_guard<std::mutex> lock(cause_mutex_);
    throw Failure(*cause_);
  }

  /// The members first tell each other, over the store, that they have come: MPI itself would wait without end.
  void make_communicator(Exchange& exchange) {
    const bool is_world = mixed_ && comm_.size == runtime_.size();
    const uint64_t number = mixed_ || comm_.size == 1 ? 0 : meet(exchange);
    if (is_world) {
      comm_.handle = MPI_COMM_WORLD;
    } else if (number == 0) {
      runtime_.call([&] { comm_.handle = formation_->make(0); });
    } else {
      joined_ = true;
      await_communicator(exchange, number);
    }
    {
      const std::lock_guard<std::mutex> lock(cause_mutex_);
      connected_ = !aborted_;
    }
    if (connected_) return;
    // It was given up meanwhile, but the others may have it.
    leave();
    throw_if_aborted();
  }

  /// Gives the number of the group, which no other one of the job has. From here on the ranks are bound by what they decide: see
  /// Turns.
  uint64_t meet(Exchange& exchange) {
    const std::string ready = "mpi/ready/";
    undecided_ = true;
    std::vector<uint64_t> requests(static_cast<size_t>(comm_.size));
    const auto request_all = [&] {
      for (int rank = 0; rank < comm_.size; rank++) {
        if (rank != comm_.rank) requests[static_cast<size_t>(rank)] = exchange.request(ready + std::to_string(rank));
      }
    };
    const auto came = [](int, const std::vector<char>&) {};
    const auto deadline = config_.connect_deadline;
    std::vector<char> value;
    // What is asked for first costs the host no turn of its own.
    uint64_t decision = 0;
    if (comm_.rank == 0) {
      request_all();
    } else {
      decision = exchange.request(C10D_MPI_DECISION);
    }
    exchange.set(ready + std::to_string(comm_.rank), "1", 1);
    if (comm_.rank == 0) {
      await_ranks(config_, exchange, requests, came);
      const uint64_t number = runtime_.group_number();
      const auto refused = attempt([&] { exchange.set(C10D_MPI_DECISION, &number, sizeof number); });
      undecided_ = refused.has_value();
      if (!refused) return number;
      if (refused->status() != C10D_ERR_NETWORK) throw Failure(*refused);
      // A rank has given up before, or the store has not told.
      value = exchange.await(exchange.request(C10D_MPI_DECISION), deadline);
      undecided_ = false;
      return number_in(value);
    }
    if (!await_until(exchange, decision, deadline - std::min(kAskBefore, (deadline - Clock::now()) / 2), value)) {
      // Rank 0 waits for one of them, or does not come itself.
      request_all();
      if (!await_until(exchange, decision, deadline, value)) {
        Config expired = config_;
        expired.connect_deadline = Clock::now();
        await_ranks(expired, exchange, requests, came);
        throw Failure(C10D_ERR_OP_TIMEOUT, "rank 0 does not make the group although all ranks have come", 0);
      }
    }
    undecided_ = false;
    return number_in(value);
  }

  /// The ranks tell each other, too, that they are in MPI, where that takes long.
  void await_communicator(Exchange& exchange, uint64_t number) {
    {
      const std::lock_guard<std::mutex> lock(cause_mutex_);
      making_ = Making::start(turn_, formation_, number, true);
    }
    const auto deadline = config_.connect_deadline;
    const auto ended = [this](Clock::time_point until) {
      const bool has_ended = making_->await(until, [this] { return aborted_.load(); });
      if (!has_ended) throw_if_aborted();
      return has_ended;
    };
    const auto failure = attempt([&] {
      if (ended(std::min(deadline, Clock::now() + kSlowMaking))) return;
      const std::string inside = "mpi/inside/";
      exchange.set(inside + std::to_string(comm_.rank), "1", 1);
      if (ended(deadline - std::min(kAskBefore, (deadline - Clock::now()) / 2))) return;
      // Those that were not that slow leave no word, and nothing is to wait for it for long.
      std::vector<uint64_t> requests(static_cast<size_t>(comm_.size));
      for (int rank = 0; rank < comm_.size; rank++) {
        if (rank != comm_.rank) requests[static_cast<size_t>(rank)] = exchange.request(inside + std::to_string(rank));
      }
      if (ended(deadline)) return;
      await_ranks(config_, exchange, requests, [](int, const std::vector<char>&) {});
      throw Failure(C10D_ERR_OP_TIMEOUT, "MPI does not make the group although all ranks have come");
    });
    if (failure && making_->give_up()) throw Failure(*failure);
    comm_.handle = making_->take();
    if (!failure) return;
    leave();
    throw Failure(*failure);
  }

  static uint64_t number_in(const std::vector<char>& decision) {
    uint64_t number = 0;
    int32_t rank = 0;
    if (decision.size() == sizeof rank) {
      std::memcpy(&rank, decision.data(), sizeof rank);
      throw Failure(C10D_ERR_NETWORK, rank_text(rank) + " has given up making the group");
    }
    if (decision.size() != sizeof number) throw Failure(C10D_ERR_INVALID, "rank 0 runs another version of bun-c10d", 0);
    std::memcpy(&number, decision.data(), sizeof number);
    return number;
  }

  /// Takes note of ranks that have left or failed.
  void hear() {
    if (!joined_) return;
    if (looks_++ % kLooksPerNotice == 0) runtime_.notices().look();
    take_news();
  }

  void hear_before_start(const Op& op) {
    if (!joined_) return;
    if (const auto now = Clock::now(); now >= next_hearing_) {
      next_hearing_ = now + kHearingInterval;
      for (int look = 0; look < kHearingLooks; look++) runtime_.notices().look();
    }
    take_news();
    // What others have called differently leaves the collectives before it alone.
    if (heard_failure_ && !heard_failure_->spares(op.number)) throw Failure(*heard_failure_);
  }

  void take_news() {
    for (const Notice& notice : self_->news(heard_notices_)) {
      if (notice.rank < 0 || notice.rank >= comm_.size) continue;
      if (notice.kind == Notice::failed) {
        if (heard_failure_) continue;
        heard_failure_ = failure_of(notice);
        divergence_.note(*heard_failure_);
        heard_ = true;
        continue;
      }
      departures_[static_cast<size_t>(notice.rank)] =
          Departure{static_cast<Notice::Kind>(notice.kind), notice.collectives, Clock::now(), looks_};
      left_count_++;
    }
  }

  Failure failure_of(const Notice& notice) const {
    const std::string text(notice.text, ::strnlen(notice.text, sizeof notice.text));
    // What two ranks have called is for all to know, in the same words.
    if (notice.status == C10D_ERR_DESYNC) {
      return desync(C10D_MISMATCH_REPORTED, notice.cause, notice.rank, text).of_collective(notice.collectives);
    }
    const int culprit = notice.cause < 0 || notice.cause == comm_.rank ? notice.rank : notice.cause;
    return Failure(C10D_ERR_NETWORK, rank_text(notice.rank) + " has given up the group: " + text, culprit);
  }

  static std::string rank_text(int rank) { return "rank " + std::to_string(rank); }

  Failure left(int rank) const {
    const bool ended = departures_[static_cast<size_t>(rank)]->kind == Notice::ended;
    return Failure(C10D_ERR_NETWORK, rank_text(rank) + (ended ? " has ended" : " has closed the group"), rank);
  }

  /// Whether a rank has left, and nothing from before can be on its way any more.
  bool is_gone(int rank) const {
    const auto& departure = departures_[static_cast<size_t>(rank)];
    return departure && looks_ - departure->look >= kLeftLooks && Clock::now() - departure->heard >= kLeftGrace;
  }

  /// The rank whose leaving keeps a message from ending; -1 if there is none.
  int gone_peer(const Op& op) const {
    if (op.request.opcode != C10D_OP_RECV_ANY_SOURCE) return is_gone(op.request.peer) ? op.request.peer : -1;
    int last = -1;
    for (int rank = 0; rank < comm_.size; rank++) {
      if (rank == comm_.rank) continue;
      if (!is_gone(rank)) return -1;
      const auto heard = [this](int of) { return departures_[static_cast<size_t>(of)]->heard; };
      if (last < 0 || heard(rank) > heard(last)) last = rank;
    }
    return last;
  }

  /// Throws Failure, which fails the group, if an op waits for a rank that has left; a receive looks once more
  /// whether its message has come.
  void look_for_leavers() {
    for (auto& call : calls_) {
      const Op& op = *call->op;
      if (op.point_to_point()) {
        const int peer = gone_peer(op);
        if (peer < 0) continue;
        if (op.request.opcode == C10D_OP_SEND) throw left(peer);
        call->sender_left = true;
        continue;
      }
      for (int rank = 0; rank < comm_.size; rank++) {
        const auto& departure = departures_[static_cast<size_t>(rank)];
        if (departure && op.number > departure->collectives) throw left(rank);
      }
    }
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
      return;
    }
    const bool compares = !comm_.mixed && comm_.size > 1;
    if (compares) {
      call.agreeing = true;
      call.agreement.begin(*call.op, comm_, comparisons_++);
    }
    // Its notes go at the same time as the signatures, since those that do not come are for rank 0 to name.
    if (monitored(*call.op)) {
      begin_monitored_barrier(call, comm_);
    } else if (!compares) {
      begin_collective(call, comm_);
    }
  }

  /// Whether the op is through; `first`: no earlier collective waits for its turn to begin, or has been called differently. Throws
  /// Failure.
  bool has_ended(Call& call, bool first) {
    if (call.unmatched && !has_come(call)) return false;
    if (call.agreeing) {
      // Its buffers are not in use, whatever becomes of the signatures.
      throw_if_aborted();
      const bool agreed = call.agreement.reached();
      if (monitored(*call.op)) {
        call.agreeing = !agreed;
      } else {
        if (!agreed) return false;
        // None succeeds that comes after one which may fail.
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
        // Of a monitored barrier each that has come counts, whoever is missing.
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
      // Where ranks that are not Bun's compare nothing.
      if (kind == MPI_ERR_TRUNCATE) {
        throw desync(C10D_MISMATCH_CALL, comm_.rank, -1,
                     rank_text(comm_.rank) + " has received more than it was to: the ranks' tensors differ in size");
      }
      require_success(code, "MPI_Test");
    }
    if (over == 0) return false;
    if (op.point_to_point()) end_message(op, status);
    return true;
  }

  void look(std::vector<Op*>& ended) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!aborted_) hear();
    const int rounds = aborted_ ? 1 : kRoundsPerProgress;
    for (int round = 0; round < rounds && ended.empty() && !calls_.empty(); round++) {
      waiting_.clear();
      // MPI matches collectives by their order on each rank, so they begin in that of the calls.
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
          note_waiting(*calls_[i++], first, awaited);
          continue;
        }
        ended.push_back(&op);
        calls_.erase(calls_.begin() + static_cast<std::ptrdiff_t>(i));
      }
      // At once, since the limit of an op may be found to be over on another thread.
      awaited_ = awaited;
    }
    if (aborted_) return;
    // Only now, since the collectives before a mismatch go on.
    if (heard_failure_) throw Failure(*heard_failure_);
    if (left_count_ > 0) look_for_leavers();
  }

  /// Whether the message of a receive has come. Throws Failure if none will.
  bool has_come(Call& call) {
    throw_if_aborted();
    if (match_message(call, comm_, waiting_)) {
      advanced_ = true;
      return true;
    }
    const int peer = call.sender_left ? gone_peer(*call.op) : -1;
    if (peer >= 0) throw left(peer);
    return false;
  }

  void note_waiting(const Call& call, bool& first, int& awaited) {
    if (call.unmatched) waiting_.add(*call.op);
    if (first && awaited < 0) awaited = awaited_by(call);
    if (call.agreeing) first = false;
  }

  /// The rank that a collective waits for; -1 if that is not known.
  int awaited_by(const Call& call) const {
    // Of a monitored barrier it is rank 0 that tells who is missing.
    const bool waits_for_answer = monitored(*call.op) && comm_.rank != 0;
    if (waits_for_answer && (!call.agreeing || call.agreement.awaits(0))) return 0;
    return call.agreeing ? call.agreement.awaited() : -1;
  }

  /// Of what ops that are given up wait for.
  static std::mutex& kept_mutex() {
    static std::mutex mutex;
    return mutex;
  }

  /// Only now: while later ops may begin, what the others have sent for an op that was given up would come to them instead.
  void cancel_abandoned() {
    const std::lock_guard<std::mutex> lock(kept_mutex());
    if (abandoned_.empty()) return;
    runtime_.post([agreements = std::exchange(abandoned_, {})] {
      for (Agreement* agreement : agreements) agreement->cancel();
    });
  }

  /// A failed op's own notes may still be written to, and its peers may never come to it: so it stays unfinished for the end
  /// of the process, which does not wait for all ranks then.
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
  const std::vector<int> ranks_;
  const bool mixed_;
  const bool of_worker_;
  Communicator comm_;
  uint64_t turn_ = 0;
  bool host_settles_ = false;
  bool turn_over_ = false;
  /// The others may make the communicator, for all that is known here.
  bool undecided_ = false;
  /// Guarded by cause_mutex_.
  std::shared_ptr<Making> making_;

  std::mutex mutex_;
  std::vector<std::unique_ptr<Call>> calls_;
  std::vector<std::unique_ptr<Call>> spare_;
  std::atomic<bool> advanced_{false};
  const std::shared_ptr<Membership> self_;
  const std::shared_ptr<const Formation> formation_;
  size_t heard_notices_ = 0;
  /// The first failure that another rank has given notice of.
  std::optional<Failure> heard_failure_;
  Divergence divergence_;
  Clock::time_point next_hearing_;
  std::vector<std::optional<Departure>> departures_;
  int left_count_ = 0;
  /// Of the current look.
  Waiting waiting_;
  /// The rank that the first of the collectives under way waits for.
  std::atomic<int> awaited_{-1};
  /// Collectives whose signatures were exchanged.
  uint64_t comparisons_ = 0;
  uint64_t looks_ = 0;

  /// Never held while MPI is called.
  mutable std::mutex cause_mutex_;
  std::optional<Failure> cause_;
  std::atomic<bool> aborted_{false};
  /// Guarded by kept_mutex().
  std::vector<Agreement*> abandoned_;
  std::atomic<bool> connected_{false};
  std::atomic<bool> joined_{false};
  std::atomic<bool> heard_{false};
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
