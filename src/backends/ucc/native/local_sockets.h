// Connections between ranks of one host and one user, without files that others could open.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
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
  /// The connections of these ranks, which know `token`. `stop()` throws to end it.
  std::map<int, Fd> accept(const std::vector<int>& ranks, uint64_t token, const std::function<void()>& stop);

 private:
  std::string name_;
  Fd socket_;
};

/// Connects to the listener of a peer. Throws Failure.
Fd dial_local(const std::string& name, int own_rank, int peer, uint64_t token, const std::function<void()>& stop);

/// Hands a descriptor to the process at the other end, which may be gone.
void send_descriptor(int socket, int fd);
/// Waits for one; -1 if there will be none.
int take_descriptor(int socket, const std::function<void()>& stop);

}  // namespace c10d::ucc_shim
