#include "ucc_transport.h"

#include <algorithm>
#include <iterator>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "peers/peer_failures.h"

namespace c10d {

namespace ucc_shim {

namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

/// Polls before the caller yields to other threads: ranks of one host mostly reach an op at the same time.
constexpr int kPollsPerRound = 4;
/// Rounds between two checks on the other ranks while something is in flight.
constexpr unsigned kRoundsPerPeerCheck = 32;
/// Smaller data is copied by UCX through memory of its own.
constexpr uint64_t kReadFromPeer = 4 << 10;

/// A transport of UCX reports a lost connection by one of these two.
Failure op_failure(ucc_status_t status) {
  // Unless UCX has logged a shortage.
  const bool network = !logged_error() && (status == UCC_ERR_IO_ERROR || status == UCC_ERR_NO_MESSAGE);
  return failure_of(status, "UCC failed", network ? C10D_ERR_NETWORK : C10D_ERR_BACKEND);
}

}  // namespace

void UccTransport::number(Op& op) noexcept {
  if (!op.point_to_point()) op.ticket = ++collectives_;
}

Transport::Start UccTransport::start(Op& op) {
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

void UccTransport::progress(std::vector<Op*>& ended) {
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

int UccTransport::awaited_peer() {
  const uint64_t oldest = oldest_;
  if (oldest == 0) return -1;
  const int local = call_table_ ? call_table_->late_rank(oldest) : -1;
  return local >= 0 ? local : peers_.late_rank(oldest);
}

void UccTransport::abort(const Failure& cause) noexcept {
  cancellation_.cancel();
  peers_.fail(cause);
}

void UccTransport::close() noexcept {
  peers_.leave(collectives_);
  if (team_) team_->destroy();
  team_.reset();
}

bool UccTransport::begin(Op& op, Running& running) {
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

void UccTransport::drive(std::vector<Op*>& ended) {
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

void UccTransport::check_peers(bool at_once, const Op* next) {
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

bool UccTransport::compare_calls() {
  bool any_arrived = false;
  if (!call_table_) return any_arrived;
  for (const auto& running : running_) {
    if (!running || running->op().point_to_point() || divergence_.reaches(running->op())) continue;
    const auto failure = attempt([&] { any_arrived |= call_table_->compare(running->entry); });
    if (failure) throw Failure(divergence_.note(*failure));
  }
  return any_arrived;
}

void UccTransport::compare(CallTable::Entry& entry) {
  const auto failure = attempt([&] { call_table_->compare(entry); });
  if (!failure) return;
  compare_calls();
  throw Failure(*failure);
}

Failure UccTransport::reason_of(const Failure& failure) {
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

void UccTransport::wake_sleeping_ranks(const Op& op) {
  // A rank that falls asleep after this has to see what was posted. A fence would do, but ThreadSanitizer does not
  // support it.
  posted_.exchange(true, std::memory_order_seq_cst);
  const auto& ranks = call_table_->local_ranks();
  for (size_t place = 0; place < ranks.size(); place++) {
    if (ranks[place] == config_.rank || (op.point_to_point() && ranks[place] != op.request.peer)) continue;
    if (call_table_->take_asleep(place)) peers_.wake(ranks[place]);
  }
}

void UccTransport::stay_awake() {
  idle_since_ = Clock::time_point::max();
  end_pause();
}

void UccTransport::end_pause() {
  if (!paused_) return;
  paused_ = false;
  if (call_table_) call_table_->set_asleep(false);
  peers_.set_timer(microseconds::zero());
}

ComparisonSetup UccTransport::comparison_setup() const {
  return {config_.rank, config_.world_size, team_->second(), team_->get(), gathers_calls_};
}

void UccTransport::update_oldest() {
  uint64_t oldest = 0;
  for (const auto& running : running_) {
    if (!running->op().point_to_point()) {
      oldest = running->op().ticket;
      break;
    }
  }
  oldest_.store(oldest, std::memory_order_relaxed);
}

std::unique_ptr<Running> UccTransport::take_spare() {
  if (spare_.empty()) return std::make_unique<Running>(comparison_setup());
  auto spare = std::move(spare_.back());
  spare_.pop_back();
  return spare;
}

bool UccTransport::advance(Running& running, size_t position) {
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

void UccTransport::check_log(const Running& running) {
  const Op& op = running.op();
  const Failure failure = reason_of(op_failure(UCC_ERR_NO_MESSAGE));
  if (!op.point_to_point() || failure.peer() < 0 || failure.peer() == op.request.peer) throw Failure(failure);
}

bool UccTransport::resume(Running& running, size_t position) {
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

void UccTransport::check_sources(const Running& running) {
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

uint64_t UccTransport::bytes_of(const Op& op) {
  uint64_t bytes = 0;
  for (const auto* buffers : {&op.inputs, &op.outputs}) {
    for (const auto& buffer : *buffers) bytes += buffer.bytes;
  }
  return bytes;
}

void UccTransport::collect(std::vector<Op*>& ended) {
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

void UccTransport::give_up(std::vector<Op*>& ended) {
  if (withheld_ != nullptr) ended.push_back(std::exchange(withheld_, nullptr));
  for (auto& running : running_) {
    Op& op = running->op();
    op.failure = Failure(C10D_ERR_ABORTED, "the group was aborted");
    ended.push_back(&op);
    abandoned_.push_back(std::move(running));
  }
  running_.clear();
}

void UccTransport::keep_abandoned() {
  static auto* kept = new std::vector<std::unique_ptr<Running>>;
  static std::mutex kept_mutex;
  const std::lock_guard<std::mutex> lock(kept_mutex);
  std::move(abandoned_.begin(), abandoned_.end(), std::back_inserter(*kept));
}

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
