// Connections between ranks of one host and one user, without files that others could open.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mesh/socket.h"

namespace c10d::ucc_shim {

uint64_t random_number();

/// The same on two ranks only if a local socket can connect them: same boot of the same kernel, same network namespace. Empty
/// if that cannot be known.
std::string host_identity();

class LocalListener {
 public:
  explicit LocalListener(int connections);
  /// All users of the host see it, so it says nothing.
  const std::string& name() const { return name_; }
  /// Hands the connections of these ranks, which know `token`, to `connected` as they come. `stop()` throws to end it.
  void accept(std::vector<int> ranks, uint64_t token, const std::function<void(int, Fd)>& connected,
              const std::function<void()>& stop);

 private:
  std::string name_;
  Fd socket_;
};

/// Connects to the listener of a peer. Throws Failure.
Fd dial_local(const std::string& name, int own_rank, int peer, uint64_t token, const std::function<void()>& stop);

/// Whether somebody listens by this name, as a rank does until it has the group.
bool is_listening(const std::string& name);

/// Hands a descriptor to the process at the other end, which may be gone.
void send_descriptor(int socket, int fd);
/// Takes one that comes next on a socket: -1 if something else does, nothing if nothing has come yet. Does not block. Throws
/// Failure if this process cannot open it.
std::optional<Fd> take_descriptor(int socket);

}  // namespace c10d::ucc_shim
