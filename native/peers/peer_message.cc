#include "peers/peer_message.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstddef>

namespace c10d {

static_assert(offsetof(PeerMessage, characters) == PeerMessage::kHeaderBytes, "a message is sent as it is in memory");

void send_message(int socket, const PeerMessage& message) noexcept {
  const size_t bytes = PeerMessage::kHeaderBytes + message.text_bytes;
  const auto sent = ::send(socket, &message, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
  // After part of a message, the peer could not read the next one.
  if (sent > 0 && static_cast<size_t>(sent) < bytes) ::shutdown(socket, SHUT_WR);
}

size_t PeerMessageReader::known_size() const {
  return received_ < PeerMessage::kHeaderBytes ? PeerMessage::kHeaderBytes
                                               : PeerMessage::kHeaderBytes + message_.text_bytes;
}

PeerMessageReader::Result PeerMessageReader::read(int socket) {
  if (received_ == known_size()) received_ = 0;
  do {
    const auto got =
        ::recv(socket, reinterpret_cast<char*>(&message_) + received_, known_size() - received_, MSG_DONTWAIT);
    if (got > 0) {
      received_ += static_cast<size_t>(got);
      // No rank sends that.
      if (received_ >= PeerMessage::kHeaderBytes && message_.text_bytes > sizeof message_.characters)
        return Result::ended;
      continue;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return Result::nothing_yet;
    // The peer closed its end with unread data: its own messages can still be read after this.
    if (got == 0 || errno != ECONNRESET || reset_) return Result::ended;
    reset_ = true;
  } while (received_ < known_size());
  return Result::message;
}

}  // namespace c10d
