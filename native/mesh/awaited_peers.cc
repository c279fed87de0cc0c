#include "mesh/awaited_peers.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <numeric>
#include <utility>

#include "engine/rank_values.h"

namespace c10d {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLookInterval{50};
/// Most peers connect before a probe is needed.
constexpr milliseconds kFirstProbe{200};
/// Pauses between two probes grow from the first to the second, since a stopped peer accepts none of them.
constexpr milliseconds kShortestPause{200};
constexpr milliseconds kLongestPause{2'000};
/// A probe that takes longer shows nothing.
constexpr milliseconds kProbeLimit{1'000};
/// A peer that has connected to all others no longer listens, while its connection to this rank may still wait to be
/// accepted. So it is lost only after several refusals, with a pause after each.
constexpr int kRefusals = 8;
constexpr milliseconds kRefusedPause{50};
/// Peers that are probed at once, in a large group.
constexpr size_t kProbesAtOnce = 16;

}  // namespace

bool ListenerProbe::finds_lost(Clock::time_point now) {
  if (socket_.get() < 0) {
    if (now >= next_) begin(now);
  } else {
    pollfd source{socket_.get(), POLLOUT, 0};
    int error = 0;
    socklen_t size = sizeof error;
    if (::poll(&source, 1, 0) > 0) {
      if (::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
      record(error, now);
    } else if (now - began_ >= kProbeLimit) {
      record(ETIMEDOUT, now);
    }
  }
  return refusals_ >= kRefusals;
}

void ListenerProbe::begin(Clock::time_point now) {
  began_ = now;
  socket_ = Fd(::socket(address_.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket_.get() < 0) return record(errno, now);
  const int error = ::connect(socket_.get(), address_.data(), address_.size()) == 0 ? 0 : errno;
  if (error != EINPROGRESS) record(error, now);
}

void ListenerProbe::record(int error, Clock::time_point now) {
  socket_ = Fd();
  if (error == ECONNREFUSED && listened_) {
    refusals_++;
    next_ = now + kRefusedPause;
    return;
  }
  if (error == 0) listened_ = true;
  refusals_ = 0;
  pause_ = std::clamp(pause_ * 3 / 2, kShortestPause, kLongestPause);
  next_ = now + pause_;
}

void accept_all(std::vector<AwaitedPeer>& peers, Listener& listener, Clock::time_point deadline,
                const Cancellation& cancellation, Exchange& log, const std::function<void(size_t, Fd)>& arrived,
                const std::function<void()>& look) {
  std::vector<size_t> awaited(peers.size());
  std::iota(awaited.begin(), awaited.end(), size_t{0});
  const auto probed_from = Clock::now() + kFirstProbe;
  for (;;) {
    const auto has_connected = [&](size_t i) {
      Fd connection = listener.take(peers[i].number);
      if (connection.get() < 0) return false;
      arrived(i, std::move(connection));
      return true;
    };
    awaited.erase(std::remove_if(awaited.begin(), awaited.end(), has_connected), awaited.end());
    if (awaited.empty()) return;
    const auto now = Clock::now();
    if (now >= deadline) {
      std::vector<int32_t> missing;
      for (const size_t i : awaited) missing.push_back(peers[i].rank);
      missing.erase(std::unique(missing.begin(), missing.end()), missing.end());
      const std::string have = missing.size() == 1 ? " has" : " have";
      throw Failure::of_ranks(C10D_ERR_OP_TIMEOUT, text_of_ranks(missing) + have + " not connected", missing);
    }
    if (look) look();
    for (size_t i = 0; now >= probed_from && i < std::min(awaited.size(), kProbesAtOnce); i++) {
      AwaitedPeer& peer = peers[awaited[i]];
      if (!peer.probe || !peer.probe->finds_lost(now)) continue;
      const auto text = text_of_ranks({peer.rank}) + " is lost: it has not connected, and no longer listens";
      throw Failure(C10D_ERR_NETWORK, text, peer.rank);
    }
    listener.serve(std::min(deadline, now + kLookInterval), cancellation, log);
  }
}

}  // namespace c10d
