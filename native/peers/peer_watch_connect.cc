#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "peers/peer_failures.h"
#include "peers/peer_watch.h"
#include "peers/remote_sockets.h"

namespace c10d {

namespace {

using std::chrono::milliseconds;

/// How often a rank that waits for connections from its host checks that the other ranks still listen.
constexpr milliseconds kListenerCheckInterval{100};
constexpr int kPollMs = 10;

/// What a rank publishes about itself while it connects.
struct RankInfo {
  char host[64];
  char socket[24];
  uint64_t token;
  /// Address of the token in its memory.
  uint64_t address;
  int32_t process;
  int32_t world_size;
};

Failure broken(const char* what) { return Failure::of_system(what, errno); }

}  // namespace

void PeerWatch::watch(int fd, uint64_t source) const {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = source;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) throw broken("epoll_ctl");
}

void PeerWatch::connect(StoreGather& store, const char* variable, Exchange& exchange, const Cancellation& cancellation,
                        const std::function<void()>& stop) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    peers_.resize(static_cast<size_t>(config_.world_size));
  }
  epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (epoll_.get() < 0) throw broken("epoll_create1");
  timer_ = Fd(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  if (timer_.get() < 0) throw broken("timerfd_create");
  watch(timer_.get(), kTimerEvent);
  timer_set_ = true;
  set_timer(std::chrono::microseconds::zero());
  connect_local(store, stop);
  if (local_ranks_.size() < peers_.size()) {
    const auto connected = [this](int rank, Fd socket) { add_connection(rank, std::move(socket)); };
    connect_remote(config_, local_ranks_, store, variable, exchange, cancellation, remote_listener_, connected, stop);
  }
}

void PeerWatch::add_connection(int rank, Fd socket) {
  watch(socket.get(), static_cast<uint64_t>(rank));
  const std::lock_guard<std::mutex> lock(mutex_);
  if (own_last_message_) {
    send_message(socket.get(), *own_last_message_);
    ::shutdown(socket.get(), SHUT_WR);
  }
  peer(rank).socket = std::move(socket);
}

void PeerWatch::connect_local(StoreGather& store, const std::function<void()>& stop) {
  RankInfo own{};
  own.token = token_ = random_number();
  own.address = reinterpret_cast<uint64_t>(&token_);
  own.process = ::getpid();
  own.world_size = config_.world_size;
  std::string host = host_identity();
  // For tests, which make one machine look like several hosts.
  if (const auto part = config_.options.get("machine"); !part.empty()) host += "/" + part;
  host.copy(own.host, sizeof own.host - 1);
  local_listener_ = std::make_unique<LocalListener>(config_.world_size);
  local_listener_->name().copy(own.socket, sizeof own.socket - 1);

  const auto infos = store.all_gather(&own, sizeof own);
  // The ranks that connect to this one, and the names that they listen on themselves.
  std::map<int, std::string> expected;
  for (int rank = 0; rank < config_.world_size; rank++) {
    const auto& value = infos[static_cast<size_t>(rank)];
    RankInfo info{};
    if (value.size() != sizeof info) {
      throw Failure(C10D_ERR_INVALID, "rank " + std::to_string(rank) + " runs another version of bun-c10d", rank);
    }
    std::memcpy(&info, value.data(), sizeof info);
    if (info.world_size != config_.world_size) {
      throw Failure(C10D_ERR_INVALID,
                    "rank " + std::to_string(rank) + " makes this group of " + std::to_string(info.world_size) +
                        " ranks, rank " + std::to_string(config_.rank) + " of " + std::to_string(config_.world_size) +
                        ". All ranks of the job, members or not, must make the same groups in the same order",
                    rank);
    }
    const bool local = !host.empty() && std::strncmp(info.host, own.host, sizeof own.host) == 0;
    if (local || rank == config_.rank) local_ranks_.push_back(rank);
    if (!local || rank == config_.rank) continue;
    Peer& other = peer(rank);
    other.address = info.address;
    other.token = info.token;
    other.process = info.process;
    // In another PID namespace, or not readable by this process: then UCX does not read there either.
    if (!memory_is_readable(rank)) other.process = 0;
    info.socket[sizeof info.socket - 1] = '\0';
    if (rank < config_.rank) {
      add_connection(rank, dial_local(info.socket, config_.rank, rank, info.token, stop));
    } else {
      expected.emplace(rank, info.socket);
    }
  }
  accept_local(expected, stop);
}

void PeerWatch::accept_local(std::map<int, std::string> expected, const std::function<void()>& stop) {
  std::vector<int> ranks;
  for (const auto& [rank, name] : expected) ranks.push_back(rank);
  const auto connected = [&](int rank, Fd socket) {
    expected.erase(rank);
    add_connection(rank, std::move(socket));
  };
  auto next_check = Clock::now() + kListenerCheckInterval;
  std::map<int, int> refusals;
  const auto check = [&] {
    stop();
    if (Clock::now() < next_check) return;
    next_check = Clock::now() + kListenerCheckInterval;
    for (const auto& [rank, name] : expected) {
      // Its connection, perhaps with its last message, may have arrived just before.
      if (!is_listening(name) && ++refusals[rank] > 1) throw process_ended(rank);
    }
  };
  local_listener_->accept(std::move(ranks), token_, connected, check);
}

/// The first rank creates the memory and sends its descriptor to the others.
int PeerWatch::share_memory(size_t bytes, const std::function<void()>& stop) {
  const int first = local_ranks_.front();
  if (first != config_.rank) {
    for (; !memory_received_; stop(), read()) {
      pollfd source{peer(first).socket.get(), POLLIN, 0};
      ::poll(&source, 1, kPollMs);
    }
    // The rank sent another message instead, which says why.
    if (memory_.get() < 0) require_all();
    if (memory_.get() < 0) throw left_group(first);
    return memory_.release();
  }
  Fd memory(::memfd_create("c10d", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (memory.get() < 0) throw broken("memfd_create");
  // No rank can shrink it later while the others use it.
  if (::ftruncate(memory.get(), static_cast<off_t>(bytes)) != 0 ||
      ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK) != 0) {
    throw broken("shared memory");
  }
  for (const int rank : local_ranks_) {
    if (rank != config_.rank) send_descriptor(peer(rank).socket.get(), memory.get());
  }
  return memory.release();
}

}  // namespace c10d
