// What ranks say to each other beside UCC, each over a connection of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace c10d::ucc_shim {

struct Note {
  enum Kind : uint32_t {
    /// The rank has left the group, after `collectives`.
    left = 1,
    /// The group has failed there; of a mismatch, `collectives` counts up to the one that the ranks called differently.
    failed = 2,
    /// Whoever sleeps shall look again.
    wake = 3,
    /// The rank has come to as many `collectives`, and waits.
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
  char text[608];

  static constexpr size_t kHeaderBytes = 32;
  std::string words() const { return {text, text_bytes}; }
  void set_words(const std::string& words) { text_bytes = static_cast<uint32_t>(words.copy(text, sizeof text)); }
};

/// Does not block. A peer that has gone gets nothing, and one that reads nothing may miss it.
void send_note(int socket, const Note& note) noexcept;

/// Puts the notes of one peer together.
class NoteReader {
 public:
  enum class Result { note, nothing_yet, ended };
  /// The next note, if all of it is there. Does not block.
  Result read(int socket);
  const Note& note() const { return note_; }

 private:
  /// Bytes that the note has, as far as that is known.
  size_t wanted() const;

  Note note_;
  size_t got_ = 0;
  bool reset_ = false;
};

}  // namespace c10d::ucc_shim
