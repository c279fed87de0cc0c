// Who of the other ranks is still there. UCX does not tell over shared memory, so ranks of one host hold a local socket to
// each other, over which nothing goes but farewells and what wakes a rank; its end without a farewell means that the process
// has died.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "engine/transport.h"
#include "rendezvous.h"

namespace c10d::ucc_shim {

class PeerWatch {
 public:
  explicit PeerWatch(const Config& config) : config_(config) {}
  ~PeerWatch();
  PeerWatch(const PeerWatch&) = delete;
  PeerWatch& operator=(const PeerWatch&) = delete;

  /// Connects to the ranks of this host; `stop()` throws to end it. Throws Failure.
  void connect(Rendezvous& rendezvous, const std::function<void()>& stop);

  /// The ranks of this host in order, with this one; known when connected.
  const std::vector<int>& here() const { return here_; }
  /// Memory of so many bytes, all zero, that the ranks of this host share: a descriptor of it, for the caller to close. All of
  /// them call this once when they are connected. Throws Failure.
  int share_memory(size_t bytes, const std::function<void()>& stop);

  /// Whether a rank was still there a moment ago, as far as this can be known; false also when it has gone in good order. UCX
  /// reads large data out of the memory of its process, and UCC does not tell when that fails.
  bool memory_is_there(int rank) const;
  /// Whether a rank has said that it leaves, or that its group has failed.
  bool has_taken_leave(int rank);

  /// Becomes readable when there is something to look at, or when the time given to nap() is over.
  int descriptor() const { return epoll_; }
  /// Until when the descriptor is quiet if nothing happens; zero for not at all.
  void nap(std::chrono::microseconds length);
  /// Ends the nap of a rank of this host.
  void wake(int rank) const;

  /// What pending ops wait for.
  struct Awaited {
    /// The last collective under way, counted from 1; 0 if none is.
    uint64_t collective = 0;
    /// Peers of messages under way.
    std::vector<int> peers;
  };
  /// The reason why not all of that can end any more, if there is one. Does not block.
  std::optional<Failure> look(const Awaited& awaited);
  /// What may be behind an error of the library's: a rank of this host that is not there any more.
  std::optional<Failure> find_lost();
  /// Whether something has happened since, or a nap is over. Does not block.
  bool stirred() { return read(); }

  /// Tells the others that this rank has left, after as many collectives.
  void leave(uint64_t collectives) noexcept;
  /// Tells the others that the group has failed here. From any thread.
  void fail(const Failure& cause) noexcept;

 private:
  struct Note {
    enum Kind : uint32_t { left = 1, failed = 2, wake = 3 };
    uint32_t kind;
    /// Of a failure: the rank that caused it, or -1, its status and what it says.
    int32_t cause;
    int32_t status;
    uint32_t text_bytes;
    uint64_t collectives;
    char text[616];
  };
  struct Peer {
    int socket = -1;
    /// Where a number of its own lies in its memory; no process for one whose memory cannot be read.
    pid_t process = 0;
    uint64_t address = 0;
    uint64_t token = 0;
    std::optional<Note> note;
    /// When its connection ended, if it has.
    std::optional<Clock::time_point> gone;
  };

  void dial(int rank, const std::string& name, uint64_t token, const std::function<void()>& stop);
  void accept(int listener, uint64_t token, int expected, const std::function<void()>& stop);
  void watch(int fd, uint64_t who) const;
  /// Returns whether there was anything.
  bool read();
  void read(Peer& peer);
  Failure failed_on(int rank, const Note& note) const;
  void tell(const Note& note) noexcept;

  const Config& config_;
  std::vector<Peer> peers_;
  std::vector<int> here_;
  int epoll_ = -1;
  int timer_ = -1;
  bool napping_ = false;
  uint64_t token_ = 0;
  /// Guards only what fail() touches: whether there are sockets to write to.
  std::mutex mutex_;
  bool connected_ = false;
};

}  // namespace c10d::ucc_shim
