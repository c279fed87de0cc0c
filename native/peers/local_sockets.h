// Connections between ranks of one host and one user, without files that others could open.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mesh/socket.h"

namespace c10d {

uint64_t random_number();

/// Equal on two ranks only if a local socket can connect them: same boot of the same kernel, same network namespace.
/// Empty if that cannot be known.
std::string host_identity();

class LocalListener {
 public:
  explicit LocalListener(int connections);
  /// Random, since all users of the host can see it.
  const std::string& name() const { return name_; }
  /// Accepts connections of these ranks, which must present `token`, and passes each to `connected`. `stop()` throws to
  /// end it.
  void accept(std::vector<int> ranks, uint64_t token, const std::function<void(int, Fd)>& connected,
              const std::function<void()>& stop);

 private:
  std::string name_;
  Fd socket_;
};

/// Connects to the listener of a peer. Throws Failure.
Fd dial_local(const std::string& name, int own_rank, int peer, uint64_t token, const std::function<void()>& stop);

/// Whether a socket listens under this name, as that of a rank does until the rank has the group.
bool is_listening(const std::string& name);

/// Sends a descriptor to the process at the other end, which may have exited.
void send_descriptor(int socket, int fd);
/// Receives a descriptor if it is next on a socket: -1 if something else is, nothing if nothing has arrived yet. Does
/// not block. Throws Failure if this process cannot open it.
std::optional<Fd> take_descriptor(int socket);

}  // namespace c10d
