// Watches whether the other ranks are still alive, for libraries that do not notice: UCX does not over shared memory, and
// UCC does not report which rank it waits for; NCCL waits for a rank of the same host for ever. So each rank has a
// connection to each other one, a local socket on one host and TCP between hosts, which carries nothing but
// PeerMessages. If it ends without a message that says why, the process has died.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "engine/transport.h"
#include "mesh/listener.h"
#include "mesh/socket.h"
#include "peers/local_sockets.h"
#include "peers/peer_message.h"
#include "peers/store_gather.h"

namespace c10d {

class PeerWatch {
 public:
  /// Which ranks notify each other of where they wait: those of one host may know it otherwise.
  enum class Audience { other_hosts, all };

  explicit PeerWatch(const Config& config, Audience audience = Audience::other_hosts)
      : config_(config), audience_(audience), arrived_(static_cast<size_t>(config.world_size)) {}
  PeerWatch(const PeerWatch&) = delete;
  PeerWatch& operator=(const PeerWatch&) = delete;

  /// Connects to the other ranks. `variable` is the environment variable that selects the interface; `stop()` throws to end it, and `cancellation` ends it too. Messages are exchanged
  /// from the first connection on. Throws Failure.
  void connect(StoreGather& store, const char* variable, Exchange& exchange, const Cancellation& cancellation,
               const std::function<void()>& stop);
  /// Creates zeroed memory of this size that the ranks of this host share, and returns a descriptor for the caller to
  /// close. Each of these ranks calls it once, after connecting. Throws Failure.
  int share_memory(size_t bytes, const std::function<void()>& stop);
  /// While the group is being made: throws Failure if a rank is lost or has given up. Does not block.
  void require_all();
  /// The group is made on this rank, so no other rank connects any more.
  void set_made();

  /// The ranks of this host in order, this one among them; known when connected.
  const std::vector<int>& local_ranks() const { return local_ranks_; }
  bool is_local(int rank) const;

  /// Whether the memory of a rank of this host could still be read a moment ago, as far as this can be known; false
  /// also after the rank exited cleanly. UCX reads large data out of that memory, and UCC does not report when
  /// that fails.
  bool memory_is_readable(int rank) const;
  /// Whether a rank sent its last message: that it leaves, or that its group failed.
  bool has_sent_last_message(int rank);
  /// The same, or that its connection ended, as far as the last check() has shown.
  bool is_out(int rank) const { return peer(rank).last_message || peer(rank).disconnected_at; }

  /// Becomes readable when there is something to read, or when the timer expires.
  int descriptor() const { return epoll_.get(); }
  /// Makes the descriptor readable after this time at the latest; zero for at once.
  void set_timer(std::chrono::microseconds length);
  /// Wakes a rank that sleeps on its descriptor.
  void wake(int rank) const;

  /// What pending ops wait for.
  struct Awaited {
    /// The first and the last collective in flight, counted from 1; 0 if there is none.
    uint64_t oldest = 0;
    uint64_t collective = 0;
    /// Peers of messages of which nothing has arrived yet.
    std::vector<int> peers;
  };
  /// Returns why not all of that can end any more, if there is a reason. Notifies the audience after a while that this
  /// rank waits. Does not block.
  std::optional<Failure> check(const Awaited& awaited, Clock::time_point now);
  /// The rank whose loss may explain an error of UCC's, as a failure.
  std::optional<Failure> find_lost();
  /// Whether there was something to read, or the timer expired. Does not block.
  bool has_events() { return read(); }
  /// The first rank of the audience that has not reached a collective; -1 if all have, or if this rank has not waited
  /// for long enough to know. From any thread.
  int late_rank(uint64_t collective) const;

  /// Notifies the others that this rank has left, after this number of collectives.
  void leave(uint64_t collectives) noexcept;
  /// Notifies the others that the group has failed here. From any thread.
  void fail(const Failure& cause) noexcept;

 private:
  struct Peer {
    Fd socket;
    PeerMessageReader reader;
    /// The process and the address of its token; no process if its memory cannot be read.
    pid_t process = 0;
    uint64_t address = 0;
    uint64_t token = 0;
    /// That the rank left or failed, if it said so, and when that arrived.
    std::optional<PeerMessage> last_message;
    Clock::time_point left_at;
    /// When its connection ended, if it has.
    std::optional<Clock::time_point> disconnected_at;
  };
  /// In place of a rank: the timer.
  static constexpr uint64_t kTimerEvent = UINT64_MAX;

  Peer& peer(int rank) { return peers_[static_cast<size_t>(rank)]; }
  const Peer& peer(int rank) const { return peers_[static_cast<size_t>(rank)]; }
  void connect_local(StoreGather& store, const std::function<void()>& stop);
  void accept_local(std::map<int, std::string> expected, const std::function<void()>& stop);
  void add_connection(int rank, Fd socket);
  void watch(int fd, uint64_t source) const;
  /// Returns whether there was anything to read.
  bool read();
  void read(int rank);
  void announce(const Awaited& awaited, Clock::time_point now);
  void send_to_all(const PeerMessage& message) noexcept;

  bool is_notified(int rank) const { return rank != config_.rank && (audience_ == Audience::all || !is_local(rank)); }

  const Config& config_;
  const Audience audience_;
  std::vector<Peer> peers_;
  std::vector<int> local_ranks_;
  Fd epoll_;
  Fd timer_;
  bool timer_set_ = false;
  uint64_t token_ = 0;
  /// The collective that each rank of the audience last said it waits in.
  std::vector<std::atomic<uint64_t>> arrived_;
  /// The first collective in flight, since when it is the first, and the last one that the audience was notified of.
  uint64_t oldest_ = 0;
  Clock::time_point oldest_since_;
  uint64_t announced_ = 0;
  /// The collective in which this rank has waited for long enough to know which rank is late.
  std::atomic<uint64_t> known_{0};
  /// They stay open when connecting fails, or later ranks would take this one for lost.
  std::unique_ptr<LocalListener> local_listener_;
  std::unique_ptr<Listener> remote_listener_;
  /// The descriptor that the first rank of this host sends, and whether it was received.
  Fd memory_;
  bool memory_received_ = false;
  /// Guards only what fail() touches: the sockets while they are made, and the last message that was sent.
  std::mutex mutex_;
  std::optional<PeerMessage> own_last_message_;
  /// The message of another rank that ended the making of the group, for the others.
  std::optional<PeerMessage> forwarded_;
  bool made_ = false;
};

}  // namespace c10d
