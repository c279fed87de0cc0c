#include "mismatch_note.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "ops/signature.h"

namespace c10d::gloo_shim {

std::vector<char> encode_note(const Failure& mismatch, bool apart) {
  MismatchNote note;
  note.apart = apart ? 1 : 0;
  note.collective = mismatch.collective();
  const auto& ranks = mismatch.ranks();
  if (!ranks.empty()) note.rank = ranks.front();
  if (ranks.size() > 1) note.other_rank = ranks[1];
  note.text_bytes = std::min(mismatch.text().size(), MismatchNote::kMaxText);
  note.bytes = sizeof note + note.text_bytes;
  std::vector<char> bytes(note.bytes);
  std::memcpy(bytes.data(), &note, sizeof note);
  std::memcpy(bytes.data() + sizeof note, mismatch.text().data(), note.text_bytes);
  return bytes;
}

Failure decode_note(const MismatchNote& note, const char* text) {
  return desync(C10D_MISMATCH_REPORTED, note.rank, note.other_rank, std::string(text, note.text_bytes))
      .of_collective(note.collective);
}

}  // namespace c10d::gloo_shim
