#include "team.h"

#include <chrono>
#include <thread>

#include "host_limits.h"

namespace c10d::ucc_shim {

namespace {

/// How long ending a team may take.
constexpr std::chrono::milliseconds kDestroyLimit{500};

/// Making and ending contexts touches state that all of them share inside UCC and UCX.
std::mutex& shared_state() {
  static std::mutex mutex;
  return mutex;
}

}  // namespace

Team::Team(Rendezvous& rendezvous) : rendezvous_(rendezvous) {
  std::unique_lock<std::mutex> lock(shared_state());
  require_descriptors();
  ucc_lib_params_t params{};
  params.mask = UCC_LIB_PARAM_FIELD_THREAD_MODE;
  // One thread at a time, but not always the same one: UCX has no level for that.
  params.thread_mode = UCC_THREAD_MULTIPLE;
  ucc_lib_config_h config = nullptr;
  require(ucc_.lib_config_read(nullptr, nullptr, &config), "UCC cannot read its configuration");
  const ucc_status_t status = ucc_.init_version(UCC_API_MAJOR, UCC_API_MINOR, &params, config, &lib_);
  ucc_.lib_config_release(config);
  require(status, "UCC does not start");
  make_context(lock);
}

void Team::make_context(std::unique_lock<std::mutex>& lock) {
  ucc_context_config_h config = nullptr;
  ucc_status_t status = ucc_.context_config_read(lib_, nullptr, &config);
  if (status == UCC_OK) {
    ucc_context_params_t params{};
    params.mask = UCC_CONTEXT_PARAM_FIELD_TYPE | UCC_CONTEXT_PARAM_FIELD_OOB;
    params.type = UCC_CONTEXT_SHARED;
    params.oob = rendezvous_.callbacks();
    // Other groups may be made while this one waits for its ranks.
    rendezvous_.unlock_while_waiting(&lock);
    status = ucc_.context_create(lib_, &params, config, &context_);
    rendezvous_.unlock_while_waiting(nullptr);
    ucc_.context_config_release(config);
    restrict_segments();
  }
  if (status == UCC_OK) return;
  ucc_.finalize(lib_);
  rendezvous_.rethrow();
  require(status, "UCC cannot make a context");
}

void Team::create(const Config& config, const std::function<void()>& stop) { teams_[0] = make(config, 1, stop); }

void Team::create_second(const Config& config, const std::function<void()>& stop) { teams_[1] = make(config, 2, stop); }

ucc_team_h Team::make(const Config& config, uint64_t id, const std::function<void()>& stop) {
  ucc_team_params_t params{};
  params.mask = UCC_TEAM_PARAM_FIELD_OOB | UCC_TEAM_PARAM_FIELD_EP | UCC_TEAM_PARAM_FIELD_EP_RANGE |
                UCC_TEAM_PARAM_FIELD_EP_MAP | UCC_TEAM_PARAM_FIELD_ID;
  params.oob = rendezvous_.callbacks();
  params.ep = params.oob.oob_ep;
  params.ep_range = UCC_COLLECTIVE_EP_RANGE_CONTIG;
  params.ep_map.type = UCC_EP_MAP_FULL;
  params.ep_map.ep_num = static_cast<uint64_t>(config.world_size);
  // Unique within its context only. Without it the ranks would have to agree on an id first.
  params.id = id;
  ucc_team_h team = nullptr;
  ucc_status_t status = ucc_.team_create_post(&context_, 1, &params, &team);
  while (status == UCC_OK && (status = ucc_.team_create_test(team)) == UCC_INPROGRESS) {
    stop();
    progress();
    std::this_thread::yield();
    status = UCC_OK;
  }
  rendezvous_.rethrow();
  require(status, "UCC cannot make a team");
  return team;
}

void Team::destroy() noexcept {
  const auto deadline = Clock::now() + kDestroyLimit;
  for (auto& team : teams_) {
    if (team == nullptr) continue;
    ucc_status_t status = UCC_INPROGRESS;
    while ((status = ucc_.team_destroy(team)) == UCC_INPROGRESS && Clock::now() < deadline) {
      ucc_.context_progress(context_);
    }
    if (status != UCC_OK) return;
    team = nullptr;
  }
  // Not locked yet, so that other groups can be made meanwhile: UCX waits here until peers have received what is left
  // to send, maybe until the end of the process. Only after that it touches the shared state.
  std::unique_lock<std::mutex> lock(shared_state(), std::defer_lock);
  rendezvous_.lock_at_last_gather(&lock);
  ucc_.context_destroy(context_);
  rendezvous_.lock_at_last_gather(nullptr);
  if (!lock.owns_lock()) lock.lock();
  ucc_.finalize(lib_);
}

}  // namespace c10d::ucc_shim
