// How a UccTransport makes its team.
#include <chrono>
#include <memory>
#include <thread>

#include "ucc_transport.h"

namespace c10d::ucc_shim {

namespace {

/// Selects the interface.
constexpr const char* kVariable = "UCX_NET_DEVICES";

}  // namespace

void UccTransport::connect(Exchange& exchange) {
  const Log::Call call(log_);
  const auto failure = attempt([&] { make(exchange); });
  if (!failure) return;
  // UCX notices the end of a process a little before its socket shows it.
  const bool unknown = failure->peer() < 0 && !failure->harmless() && failure->status() != C10D_ERR_ABORTED;
  for (const auto until = Clock::now() + kLossGrace; unknown && !cancellation_.cancelled() && Clock::now() < until;) {
    peers_.require_all();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  throw Failure(*failure);
}

void UccTransport::make(Exchange& exchange) {
  const auto stop = [this] { check_connecting(); };
  rendezvous_ = std::make_unique<Rendezvous>(config_, exchange, stop);
  peers_.connect(rendezvous_->store(), kVariable, exchange, cancellation_, stop);
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
  Running barrier(comparison_setup());
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

void UccTransport::check_connecting() {
  if (cancellation_.cancelled()) throw Failure(C10D_ERR_ABORTED, "connecting was cancelled");
  const auto now = Clock::now();
  if (now >= next_peer_check_) {
    next_peer_check_ = now + kPeerCheckInterval;
    peers_.require_all();
  }
  if (now >= config_.connect_deadline) throw Failure(C10D_ERR_OP_TIMEOUT, "timed out while making the team");
}

}  // namespace c10d::ucc_shim
