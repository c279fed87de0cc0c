// Who of the other ranks is still there. UCX does not tell over shared memory, so ranks of one host hold a local socket to
// each other, over which nothing goes but farewells; its end without one means that the process has died.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

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

  /// What pending ops wait for.
  struct Awaited {
    /// The last collective under way, counted from 1; 0 if none is.
    uint64_t collective = 0;
    /// Peers of messages under way.
    std::vector<int> peers;
  };
  /// The reason why not all of that can end any more, if there is one. Does not block.
  std::optional<Failure> look(const Awaited& awaited);

  /// Tells the others that this rank has left, after as many collectives.
  void leave(uint64_t collectives) noexcept;
  /// Tells the others that the group has failed here. From any thread.
  void fail(const Failure& cause) noexcept;

 private:
  struct Note {
    enum Kind : uint32_t { left = 1, failed = 2 };
    uint32_t kind;
    /// Of a failure: the rank that caused it, or -1, and its status.
    int32_t cause;
    int32_t status;
    int32_t reserved;
    uint64_t collectives;
  };
  struct Peer {
    int socket = -1;
    std::optional<Note> note;
    /// When its connection ended, if it has.
    std::optional<Clock::time_point> gone;
  };

  void dial(int rank, const std::string& name, uint64_t token, const std::function<void()>& stop);
  void accept(int listener, uint64_t token, int expected, const std::function<void()>& stop);
  void read();
  Failure failed_on(int rank, const Note& note) const;
  void tell(const Note& note) noexcept;

  const Config& config_;
  std::vector<Peer> peers_;
  int epoll_ = -1;
  /// Guards only what fail() touches: whether there are sockets to write to.
  std::mutex mutex_;
  bool connected_ = false;
};

}  // namespace c10d::ucc_shim
