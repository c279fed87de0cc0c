// How a NcclTransport notices that another rank is lost, or that the group has failed there. NCCL waits for ever for a
// rank of the same host, and tells no rank that another one has aborted.
#include <algorithm>
#include <chrono>
#include <string>
#include <thread>

#include "nccl_transport.h"
#include "peers/store_gather.h"

namespace c10d::nccl_shim {

namespace {

/// Selects the interface.
constexpr const char* kVariable = "NCCL_SOCKET_IFNAME";
/// How long after an error of NCCL's the exit of the process that caused it may become visible here.
constexpr std::chrono::milliseconds kLossGrace{300};

}  // namespace

/// When NCCL has connected all ranks, they are all here. Ranks of PyTorch watch nobody.
void NcclTransport::watch_peers(Exchange& exchange) {
  const std::string key = config_.options.get("watch-key");
  if (key.empty() || config_.world_size == 1 || !communicator_) return;
  const auto answer = exchange.await(exchange.request(key), config_.connect_deadline);
  if (answer.empty()) return;
  const auto look = [this] {
    communicator_.require_wanted(config_, "connecting to the other ranks");
    peers_.require_all();
  };
  StoreGather store(config_, exchange, key, look);
  peers_.connect(store, kVariable, exchange, cancellation_, look);
  peers_.set_made();
  watches_ = true;
}

/// Throws Failure if what is in flight waits for a rank that is lost, or if the group has failed on another rank.
void NcclTransport::check_peers(Clock::time_point now) {
  if (!watches_) return;
  PeerWatch::Awaited awaited;
  for (const auto& launch : launches_) {
    for (const Op* op : launch->ops) {
      if (op->point_to_point()) {
        awaited.peers.push_back(op->request.peer);
      } else if (op->number > 0) {
        awaited.collective = std::max(awaited.collective, op->number);
        if (awaited.oldest == 0) awaited.oldest = op->number;
      }
    }
  }
  oldest_ = awaited.oldest;
  const auto failure = peers_.check(awaited, now);
  if (failure) throw Failure(*failure);
}

/// As far as it has waited for long enough to know. It may be the root of a broadcast, which waits for nobody; the status
/// records and the reports of the ranks correct that.
int NcclTransport::awaited_peer() {
  const uint64_t oldest = oldest_;
  return oldest == 0 ? -1 : peers_.late_rank(oldest);
}

/// NCCL does not say which rank an error came from.
Failure NcclTransport::reason_of(const Failure& failure) {
  if (failure.harmless() || failure.device_error() != 0) return failure;
  // NCCL does not say either that it was the device.
  const CuResult broken = device_->error();
  if (broken != CuResult::success) return cuda_failure(broken, failure.what());
  const bool known = failure.peer() >= 0 || failure.status() == C10D_ERR_OP_TIMEOUT;
  if (!watches_ || known) return failure;
  const auto until = Clock::now() + kLossGrace;
  auto lost = peers_.find_lost();
  while (!lost && !aborted_.load(std::memory_order_acquire) && Clock::now() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    lost = peers_.find_lost();
  }
  return lost.value_or(failure);
}

}  // namespace c10d::nccl_shim
