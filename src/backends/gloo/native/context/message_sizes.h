// The sizes of messages between this rank and a peer, as the two sides announce them before any data is sent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <unordered_map>

namespace c10d::gloo_shim {

/// Sends of this rank and receives of the peer. In each slot the first send meets the first receive, and so on, in
/// whichever order the two sides call them.
class MessageSizes {
 public:
  /// A send of this rank. Returns the size of the receive that it meets, if the peer has announced it.
  std::optional<size_t> send(uint64_t slot, size_t bytes) { return meet(slot, bytes, Side::send); }
  /// A receive that the peer has announced. Returns the size of the send that it meets, if this rank has called it.
  std::optional<size_t> receive(uint64_t slot, size_t bytes) { return meet(slot, bytes, Side::receive); }

 private:
  enum class Side { send, receive };
  struct Unmet {
    Side side;
    std::deque<size_t> sizes;
  };

  std::optional<size_t> meet(uint64_t slot, size_t bytes, Side side) {
    const auto [at, is_new] = unmet_.try_emplace(slot, Unmet{side, {}});
    auto& [waiting, sizes] = at->second;
    if (is_new || waiting == side) {
      sizes.push_back(bytes);
      return std::nullopt;
    }
    const size_t other = sizes.front();
    sizes.pop_front();
    if (sizes.empty()) unmet_.erase(at);
    return other;
  }

  /// By slot; none is empty.
  std::unordered_map<uint64_t, Unmet> unmet_;
};

}  // namespace c10d::gloo_shim
