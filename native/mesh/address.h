// IPv4 and IPv6 socket addresses, and the order in which Gloo compares them.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <string>

namespace c10d {

class SocketAddress {
 public:
  SocketAddress() = default;
  /// Throws Failure unless `ip` is a literal address.
  SocketAddress(const std::string& ip, uint16_t port);

  static constexpr size_t kWireBytes = 128;
  static_assert(sizeof(sockaddr_storage) == kWireBytes);
  /// Reads the kWireBytes of a sockaddr_storage. Throws Failure for other families.
  static SocketAddress from_wire(const char* bytes);
  const char* wire() const { return reinterpret_cast<const char*>(&storage_); }

  /// The address of a bound socket.
  static SocketAddress of_socket(int fd);

  const sockaddr* data() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t size() const { return family() == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in); }
  int family() const { return storage_.ss_family; }
  bool is_loopback() const;
  /// Whether both have the same IP, and so are on the same host.
  bool has_ip_of(const SocketAddress& other) const;
  std::string text() const;

  /// Positive if this side dials: the numerically larger IP, then the larger port as stored in network order.
  int compare(const SocketAddress& other) const;

 private:
  const sockaddr_in& v4() const { return reinterpret_cast<const sockaddr_in&>(storage_); }
  const sockaddr_in6& v6() const { return reinterpret_cast<const sockaddr_in6&>(storage_); }

  sockaddr_storage storage_{};
};

}  // namespace c10d
