#include "communicator.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace c10d::nccl_shim {

namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

/// How long the other ranks may take to finalize too.
constexpr milliseconds kFinalizeLimit{5'000};
/// How long after its deadline a split may take to give the communicator back.
constexpr milliseconds kSplitGrace{200};
constexpr microseconds kShortestPause{50};
constexpr microseconds kLongestPause{2'000};

void require_nccl(NcclResult result, NcclComm comm, const char* what) {
  if (result != NcclResult::success && result != NcclResult::in_progress) throw nccl_failure(result, comm, what);
}

/// Calls `over` until it is true, less often as time passes.
template <class Over>
void poll(Over over) {
  for (microseconds pause = kShortestPause; !over(); pause = std::min(2 * pause, kLongestPause)) {
    std::this_thread::sleep_for(pause);
  }
}

NcclUniqueId unique_id(const NcclApi& nccl, const Mutation& mutation) {
  NcclUniqueId id{};
  require_nccl(nccl.get_unique_id(&id), nullptr, "ncclGetUniqueId");
  if (!mutation.is("reused-id")) return id;
  static const NcclUniqueId first = id;
  return first;
}

void keep_for_ever(std::unique_ptr<NcclComm> slot) {
  static std::mutex mutex;
  static auto* const kept = new std::vector<std::unique_ptr<NcclComm>>;
  const std::lock_guard<std::mutex> lock(mutex);
  kept->push_back(std::move(slot));
}

}  // namespace

Communicator::Communicator(const Config& config, const Mutation& mutation)
    : nccl_(library().nccl), config_(config.options, library().version, mutation), mutation_(mutation) {}

Communicator::~Communicator() { abort(); }

void Communicator::connect(const Config& config, Exchange& exchange) {
  const std::string key = config.options.get("id-key", "0");
  NcclUniqueId id{};
  if (config.rank == 0) {
    id = unique_id(nccl_, mutation_);
    exchange.set(key, id.bytes, sizeof id.bytes);
  } else {
    const auto value = exchange.await(exchange.request(key), config.connect_deadline);
    if (value.size() != sizeof id.bytes) {
      throw Failure(C10D_ERR_INVALID,
                    "Invalid size for ncclUniqueId: " + std::to_string(value.size()) + " bytes in store key " + key);
    }
    std::memcpy(id.bytes, value.data(), value.size());
  }
  NcclComm made = nullptr;
  const auto result = nccl_.comm_init_rank_config(&made, config.world_size, id, config.rank, config_.get());
  comm_ = made;
  require_nccl(result, made, "ncclCommInitRankConfig");
  await_ready(config, "ncclCommInitRankConfig");
}

void Communicator::connect_split(const Config& config, Communicator& parent, int32_t color) {
  const auto failure = attempt([&] {
    if (!parent) throw Failure(C10D_ERR_INVALID, "the group to split has no communicator");
    if (parent.interrupted()) throw Failure(C10D_ERR_ABORTED, "the group that is split was aborted");
    const int nccl_color = color < 0 ? kNcclSplitNoColor : color;
    auto made = std::make_unique<NcclComm>(nullptr);
    require_nccl(nccl_.comm_split(parent.comm_, nccl_color, config.rank, made.get(), config_.get()), parent.comm_,
                 "ncclCommSplit");
    // NCCL writes it at any time until the parent is ready.
    const auto unsettled = attempt([&] {
      poll([&] {
        require_wanted(config, "ncclCommSplit");
        if (parent.interrupted()) throw Failure(C10D_ERR_ABORTED, "the group that is split was aborted");
        return parent.ready();
      });
    });
    if (unsettled) {
      parent.spoilt_.emplace(unsettled->status(), "a split of the group was given up: " + unsettled->text());
      keep_for_ever(std::move(made));
      throw Failure(*unsettled);
    }
    comm_ = *made;
    if (*this) await_ready(config, "ncclCommSplit");
  });
  parent.give_back();
  if (failure) throw Failure(*failure);
}

void Communicator::await_ready(const Config& config, const char* what) {
  poll([&] {
    require_wanted(config, what);
    return ready();
  });
}

void Communicator::require_wanted(const Config& config, const char* what) const {
  if (interrupted()) throw Failure(C10D_ERR_ABORTED, "connecting was aborted");
  if (Clock::now() < config.connect_deadline) return;
  throw Failure(C10D_ERR_OP_TIMEOUT, std::string("timed out in ") + what + ", waiting for the other ranks");
}

void Communicator::lend(Clock::time_point deadline) {
  const std::lock_guard<std::mutex> lock(lending_);
  if (borrowed_.exchange(true)) throw Failure(C10D_ERR_INVALID, "the group is being split already");
  lent_until_ = deadline;
}

bool Communicator::may_be_called() {
  if (borrowed()) return false;
  if (spoilt_) throw Failure(*spoilt_);
  return true;
}

void Communicator::look() {
  const std::lock_guard<std::mutex> lock(lending_);
  if (borrowed() && Clock::now() >= lent_until_ + kSplitGrace) {
    throw Failure(C10D_ERR_OP_TIMEOUT, "a split of the group timed out in ncclCommSplit, waiting for the other ranks");
  }
  if (may_be_called()) (void)ready();
}

bool Communicator::ready() {
  NcclResult state = NcclResult::success;
  const NcclComm comm = comm_;
  const NcclResult result = nccl_.comm_get_async_error(comm, &state);
  if (result != NcclResult::success) throw nccl_failure(result, comm, "ncclCommGetAsyncError");
  if (state == NcclResult::in_progress) return false;
  if (state != NcclResult::success) throw nccl_failure(state, comm, "NCCL communicator encountered an error");
  return true;
}

void Communicator::abort() {
  const NcclComm comm = comm_.exchange(nullptr);
  if (comm != nullptr && !mutation_.is("no-abort")) nccl_.comm_abort(comm);
}

void Communicator::finalize() {
  if (!*this) return;
  bool over = false;
  const auto failure = attempt([&] {
    require_nccl(nccl_.comm_finalize(comm_), comm_, "ncclCommFinalize");
    const auto deadline = Clock::now() + kFinalizeLimit;
    if (mutation_.is("destroy-in-progress")) over = true;
    poll([&] { return over || (over = ready()) || interrupted() || Clock::now() >= deadline; });
  });
  if (failure || !over) return abort();
  nccl_.comm_destroy(comm_.exchange(nullptr));
}

}  // namespace c10d::nccl_shim
