// Who of the other ranks is still there. UCX does not notice over shared memory, and UCC does not say whom it waits for; so
// each rank has a connection to each other one, a local socket or between hosts TCP, over which nothing goes but notes. Its end
// without one that says so means that the process has died.
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
#include "rendezvous.h"

namespace c10d::ucc_shim {

class PeerWatch {
 public:
  explicit PeerWatch(const Config& config) : config_(config), arrived_(static_cast<size_t>(config.world_size)) {}
  PeerWatch(const PeerWatch&) = delete;
  PeerWatch& operator=(const PeerWatch&) = delete;

  /// Connects to the other ranks; `stop()` throws to end it, and `cancellation` ends it too. From the first connection on, notes
  /// come and go. Throws Failure.
  void connect(Rendezvous& rendezvous, Exchange& exchange, const Cancellation& cancellation,
               const std::function<void()>& stop);
  /// Memory of so many bytes, all zero, that the ranks of this host share: a descriptor of it, for the caller to close. All of
  /// them call this once, when they are connected. Throws Failure.
  int share_memory(size_t bytes, const std::function<void()>& stop);
  /// While the group is being made: throws Failure if a rank has gone, or has given up. Does not block.
  void require_all();
  /// The group is made on this rank, so that nobody else connects.
  void set_made();

  /// The ranks of this host in order, with this one; known when connected.
  const std::vector<int>& here() const { return here_; }
  bool is_here(int rank) const;

  /// Whether a rank of this host was still there a moment ago, as far as this can be known; false also when it has gone in good
  /// order. UCX reads large data out of the memory of its process, and UCC does not tell when that fails.
  bool memory_is_there(int rank) const;
  /// Whether a rank has said that it leaves, or that its group has failed.
  bool has_taken_leave(int rank);
  /// The same, or that its process has ended, as far as the last look has shown.
  bool is_out(int rank) const { return peer(rank).farewell || peer(rank).gone; }

  /// Becomes readable when there is something to look at, or when the time given to nap() is over.
  int descriptor() const { return epoll_.get(); }
  /// Until when the descriptor is quiet if nothing happens; zero for not at all.
  void nap(std::chrono::microseconds length);
  /// Ends the nap of a rank.
  void wake(int rank) const;

  /// What pending ops wait for.
  struct Awaited {
    /// The first and the last collective under way, counted from 1; 0 if none is.
    uint64_t oldest = 0;
    uint64_t collective = 0;
    /// Peers of messages of which nothing has come yet.
    std::vector<int> peers;
  };
  /// The reason why not all of that can end any more, if there is one. Notifies ranks of other hosts after a while that this one
  /// waits. Does not block.
  std::optional<Failure> look(const Awaited& awaited, Clock::time_point now);
  /// What may be behind an error of the library's: a rank that is not there any more.
  std::optional<Failure> find_lost();
  /// Whether something has happened since, or a nap is over. Does not block.
  bool stirred() { return read(); }
  /// The first rank of another host that has not come to a collective; -1 if all have, or this rank has not waited for long
  /// enough to know. From any thread.
  int latecomer(uint64_t collective) const;

  /// Notifies the others that this rank has left, after as many collectives.
  void leave(uint64_t collectives) noexcept;
  /// Notifies the others that the group has failed here. From any thread.
  void fail(const Failure& cause) noexcept;

 private:
  struct Peer {
    Fd socket;
    NoteReader reader;
    /// Where a number of its own lies in its memory; no process for one whose memory cannot be read.
    pid_t process = 0;
    uint64_t address = 0;
    uint64_t token = 0;
    /// How it has left, if it has said so, and when it did.
    std::optional<Note> farewell;
    Clock::time_point left_at;
    /// When its connection ended, if it has.
    std::optional<Clock::time_point> gone;
  };

  Peer& peer(int rank) { return peers_[static_cast<size_t>(rank)]; }
  const Peer& peer(int rank) const { return peers_[static_cast<size_t>(rank)]; }
  void connect_here(Rendezvous& rendezvous, const std::function<void()>& stop);
  void accept_here(std::map<int, std::string> expected, const std::function<void()>& stop);
  void adopt(int rank, Fd socket);
  Failure given_up_by(int rank, const Note& note) const;
  void watch(int fd, uint64_t who) const;
  /// Returns whether there was anything.
  bool read();
  void read(int rank);
  void announce(const Awaited& awaited, Clock::time_point now);
  Failure failed_on(int rank, const Note& note) const;
  void tell_all(const Note& note) noexcept;

  const Config& config_;
  std::vector<Peer> peers_;
  std::vector<int> here_;
  Fd epoll_;
  Fd timer_;
  bool napping_ = false;
  uint64_t token_ = 0;
  /// The collective that each rank of another host has said it waits in.
  std::vector<std::atomic<uint64_t>> arrived_;
  /// The first collective under way, since when it is that, and the last one that ranks of other hosts were notified of.
  uint64_t oldest_ = 0;
  Clock::time_point oldest_since_;
  uint64_t announced_ = 0;
  /// The collective in which this rank has waited for long enough to know who has not come.
  std::atomic<uint64_t> known_{0};
  /// They stay when connecting fails, or ranks that come later would take this one for gone.
  std::unique_ptr<LocalListener> listener_;
  std::unique_ptr<Listener> far_listener_;
  /// What the first rank of this host hands out, and whether it has.
  Fd memory_;
  bool memory_came_ = false;
  /// Guards only what fail() touches: the sockets while they are made, and the last thing that was said.
  std::mutex mutex_;
  std::optional<Note> last_words_;
  /// What has ended the making of the group, if another rank has said it.
  std::optional<Note> passed_on_;
  bool made_ = false;
};

}  // namespace c10d::ucc_shim
