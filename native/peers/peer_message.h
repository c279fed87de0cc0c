// The messages that ranks send each other outside their library, each over a connection of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace c10d {

struct PeerMessage {
  enum Kind : uint32_t {
    /// The rank has left the group, after `collectives`.
    left = 1,
    /// The group has failed there; of a mismatch, `collectives` counts up to the one that the ranks called differently.
    failed = 2,
    /// Wakes a rank that sleeps.
    wake = 3,
    /// The rank has reached as many `collectives`, and waits.
    arrived = 4,
  };
  uint32_t kind = 0;
  /// Of a failure: the rank that caused it, or -1, its status and its text.
  int32_t cause = -1;
  int32_t status = 0;
  uint32_t text_bytes = 0;
  uint64_t collectives = 0;
  /// Whether the group was made there before it failed.
  uint64_t had_group = 0;
  char characters[608];

  static constexpr size_t kHeaderBytes = 32;
  std::string text() const { return {characters, text_bytes}; }
  void set_text(const std::string& text) {
    text_bytes = static_cast<uint32_t>(text.copy(characters, sizeof characters));
  }
};

/// Does not block. A peer that has closed its connection gets nothing, and one that reads nothing may miss the message.
void send_message(int socket, const PeerMessage& message) noexcept;

/// Assembles the messages of one peer.
class PeerMessageReader {
 public:
  enum class Result { message, nothing_yet, ended };
  /// The next message, if it has arrived completely. Does not block.
  Result read(int socket);
  const PeerMessage& message() const { return message_; }

 private:
  /// Size of the message in bytes, as far as it is known.
  size_t known_size() const;

  PeerMessage message_;
  size_t received_ = 0;
  bool reset_ = false;
};

}  // namespace c10d
