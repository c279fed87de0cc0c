// What differs between the generations of libgloo, as found by features.cmake: Debian 12 has that of 2022, Debian 13
// that of 2023, and later releases that of 2025. Nothing else in this folder depends on the version.
#pragma once

#include <gloo/transport/tcp/context.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/transport/tcp/pair.h>

#include <optional>

#include "context/messages.h"

namespace c10d::gloo_shim {

/// Whether each pair opens a listening socket of its own (2022), or the device does (2023 and later).
constexpr bool kPairListens = C10D_GLOO_PAIR_LISTENS != 0;

/// The address that a device listens on, if it does.
inline std::optional<sockaddr_storage> listening_address([[maybe_unused]] tcp::Device& device) {
#if C10D_GLOO_PAIR_LISTENS
  return std::nullopt;
#else
  struct Opened : tcp::Device {
    static tcp::Address next(tcp::Device& of) {
      tcp::Address (tcp::Device::*const member)() = &Opened::nextAddress;
      return (of.*member)();
    }
  };
  return Opened::next(device).getSockaddr();
#endif
}

/// Whether an all-gather of nothing divides by zero (2022).
constexpr bool kEmptyAllgatherCrashes = kPairListens;

/// Gloo's Pair, whose event handler has another signature in 2025.
class PortablePair : public tcp::Pair {
 public:
  using tcp::Pair::Pair;

#if C10D_GLOO_HANDLER_TAKES_LOOP
  void handleEvents(tcp::Loop& loop, int events) final {
    Doorbell& doorbell = before_events();
    tcp::Pair::handleEvents(loop, events);
    doorbell.ring();
  }
#else
  void handleEvents(int events) final {
    Doorbell& doorbell = before_events();
    tcp::Pair::handleEvents(events);
    doorbell.ring();
  }
#endif

 protected:
#if C10D_GLOO_HANDLER_TAKES_LOOP
  // Called for everything that is sent or received. The other generations queue it until there is a connection.
  void verifyConnected(std::unique_lock<std::mutex>& lock) final {
    if (!expected_later()) tcp::Pair::verifyConnected(lock);
  }
#endif

  /// Whether the peer has not connected yet but may do so later. Called with the mutex held.
  virtual bool expected_later() const = 0;
  /// Called on the loop thread before it handles this connection. Returns the doorbell to ring afterwards: by then the
  /// connection may be closed, and another thread may have destroyed this object.
  virtual Doorbell& before_events() = 0;
};

/// For descriptors that have no events.
class NullHandler final : public tcp::Handler {
 public:
#if C10D_GLOO_HANDLER_TAKES_LOOP
  void handleEvents(tcp::Loop&, int) override {}
#else
  void handleEvents(int) override {}
#endif
};

}  // namespace c10d::gloo_shim
