#include "mesh/address.h"

#include <arpa/inet.h>

#include <cerrno>
#include <cstring>

#include "ops/failure.h"

namespace c10d {

SocketAddress::SocketAddress(const std::string& ip, uint16_t port) {
  sockaddr_in four{};
  sockaddr_in6 six{};
  if (::inet_pton(AF_INET, ip.c_str(), &four.sin_addr) == 1) {
    four.sin_family = AF_INET;
    four.sin_port = htons(port);
    std::memcpy(&storage_, &four, sizeof four);
  } else if (::inet_pton(AF_INET6, ip.c_str(), &six.sin6_addr) == 1) {
    six.sin6_family = AF_INET6;
    six.sin6_port = htons(port);
    std::memcpy(&storage_, &six, sizeof six);
  } else {
    throw Failure(C10D_ERR_INVALID, "not an IP address: " + ip);
  }
}

SocketAddress SocketAddress::from_wire(const char* bytes) {
  SocketAddress address;
  std::memcpy(&address.storage_, bytes, kWireBytes);
  if (address.family() != AF_INET && address.family() != AF_INET6) {
    throw Failure(C10D_ERR_NETWORK, "peer published an address of unknown family " + std::to_string(address.family()));
  }
  return address;
}

SocketAddress SocketAddress::of_socket(int fd) {
  SocketAddress address;
  socklen_t size = sizeof address.storage_;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage_), &size) != 0) {
    throw Failure::of_system("getsockname", errno, C10D_ERR_NETWORK);
  }
  return address;
}

bool SocketAddress::is_loopback() const {
  if (family() == AF_INET) return (ntohl(v4().sin_addr.s_addr) >> 24) == 127;
  return IN6_IS_ADDR_LOOPBACK(&v6().sin6_addr);
}

bool SocketAddress::has_ip_of(const SocketAddress& other) const {
  if (family() != other.family()) return false;
  return family() == AF_INET ? std::memcmp(&v4().sin_addr, &other.v4().sin_addr, sizeof(in_addr)) == 0
                             : std::memcmp(&v6().sin6_addr, &other.v6().sin6_addr, sizeof(in6_addr)) == 0;
}

std::string SocketAddress::text() const {
  char ip[INET6_ADDRSTRLEN] = "?";
  if (family() == AF_INET) {
    ::inet_ntop(AF_INET, &v4().sin_addr, ip, sizeof ip);
    return std::string(ip) + ":" + std::to_string(ntohs(v4().sin_port));
  }
  ::inet_ntop(AF_INET6, &v6().sin6_addr, ip, sizeof ip);
  return "[" + std::string(ip) + "]:" + std::to_string(ntohs(v6().sin6_port));
}

int SocketAddress::compare(const SocketAddress& other) const {
  if (family() != other.family()) {
    throw Failure(C10D_ERR_INVALID, "ranks use different address families: " + text() + " and " + other.text());
  }
  int order = 0;
  if (family() == AF_INET) {
    order = std::memcmp(&v4().sin_addr, &other.v4().sin_addr, sizeof(in_addr));
    return order != 0 ? order : static_cast<int>(v4().sin_port) - static_cast<int>(other.v4().sin_port);
  }
  order = std::memcmp(&v6().sin6_addr, &other.v6().sin6_addr, sizeof(in6_addr));
  return order != 0 ? order : static_cast<int>(v6().sin6_port) - static_cast<int>(other.v6().sin6_port);
}

}  // namespace c10d
