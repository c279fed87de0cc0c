#include "device_listener.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "mesh/address.h"
#include "ops/failure.h"

namespace c10d::gloo_shim {

namespace {

bool listens_on(int fd, const SocketAddress& wanted) {
  int listening = 0;
  socklen_t size = sizeof listening;
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 || listening == 0) return false;
  sockaddr_storage own{};
  size = sizeof own;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size) != 0 || own.ss_family != wanted.family())
    return false;
  return SocketAddress::from_wire(reinterpret_cast<const char*>(&own)).compare(wanted) == 0;
}

/// The device does not expose its descriptor.
int find_listener(const SocketAddress& address) {
  const std::unique_ptr<DIR, int (*)(DIR*)> open_files(::opendir("/proc/self/fd"), &::closedir);
  while (const dirent* entry = open_files ? ::readdir(open_files.get()) : nullptr) {
    if (const int fd = std::atoi(entry->d_name); listens_on(fd, address)) return fd;
  }
  return -1;
}

}  // namespace

void close_listener(tcp::Device& device) {
  static NullHandler null;
  const auto address = listening_address(device);
  if (!address) return;
  const auto wanted = SocketAddress::from_wire(reinterpret_cast<const char*>(&*address));
  const int fd = find_listener(wanted);
  const Fd silent(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (fd < 0 || silent.get() < 0) {
    throw Failure::of_system("cannot close Gloo's own listener on " + wanted.text(), errno);
  }
  device.unregisterDescriptor(fd, &null);
  // The device will unregister and close this descriptor itself, so another one takes its place, which never has an
  // event.
  ::dup3(silent.get(), fd, O_CLOEXEC);
  device.registerDescriptor(fd, 0, &null);
}

Failure cannot_listen(const std::string& ip) {
  const std::string what = "cannot listen on " + ip;
  const auto failed = [&] { return Failure::of_system(what, errno); };
  const SocketAddress address(ip, 0);
  const Fd listener(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (listener.get() < 0) return failed();
  if (::bind(listener.get(), address.data(), address.size()) != 0) {
    if (errno != EADDRNOTAVAIL) return failed();
    return Failure(C10D_ERR_INVALID, what + ": is it an address of this machine?");
  }
  // A device has more than its listener: a loop, a pipe, and since 2023, while it is made, a socket to look up its
  // interface.
  const Fd loop(::epoll_create1(EPOLL_CLOEXEC));
  const Fd read_end(::eventfd(0, EFD_CLOEXEC));
  const Fd write_end(::eventfd(0, EFD_CLOEXEC));
  const Fd lookup(::eventfd(0, EFD_CLOEXEC));
  if (loop.get() < 0 || read_end.get() < 0 || write_end.get() < 0 || lookup.get() < 0) return failed();
  return Failure(C10D_ERR_BACKEND, what + ", though it is an address of this machine");
}

}  // namespace c10d::gloo_shim
