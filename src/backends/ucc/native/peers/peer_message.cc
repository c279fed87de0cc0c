#include "peers/peer_message.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstddef>

namespace c10d::ucc_shim {

static_assert(offsetof(Note, text) == Note::kHeaderBytes, "a note is sent as it lies in memory");

void send_note(int socket, const Note& note) noexcept {
  const size_t bytes = Note::kHeaderBytes + note.text_bytes;
  const auto sent = ::send(socket, &note, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
  // Nothing could be understood after a part of one.
  if (sent > 0 && static_cast<size_t>(sent) < bytes) ::shutdown(socket, SHUT_WR);
}

size_t NoteReader::wanted() const {
  return got_ < Note::kHeaderBytes ? Note::kHeaderBytes : Note::kHeaderBytes + note_.text_bytes;
}

NoteReader::Result NoteReader::read(int socket) {
  if (got_ == wanted()) got_ = 0;
  do {
    const auto got = ::recv(socket, reinterpret_cast<char*>(&note_) + got_, wanted() - got_, MSG_DONTWAIT);
    if (got > 0) {
      got_ += static_cast<size_t>(got);
      // Nobody sends that.
      if (got_ >= Note::kHeaderBytes && note_.text_bytes > sizeof note_.text) return Result::ended;
      continue;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return Result::nothing_yet;
    // A rank that closes its end before it has read everything: what it said itself comes after this.
    if (got == 0 || errno != ECONNRESET || reset_) return Result::ended;
    reset_ = true;
  } while (got_ < wanted());
  return Result::note;
}

}  // namespace c10d::ucc_shim
