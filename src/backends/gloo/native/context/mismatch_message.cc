#include "context/mismatch_message.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "ops/signature.h"

namespace c10d::gloo_shim {

std::vector<char> encode_mismatch(const Failure& mismatch, bool apart) {
  MismatchMessage message;
  message.apart = apart ? 1 : 0;
  message.collective = mismatch.collective();
  const auto& ranks = mismatch.ranks();
  if (!ranks.empty()) message.rank = ranks.front();
  if (ranks.size() > 1) message.other_rank = ranks[1];
  message.text_bytes = std::min(mismatch.text().size(), MismatchMessage::kMaxText);
  message.bytes = sizeof message + message.text_bytes;
  std::vector<char> bytes(message.bytes);
  std::memcpy(bytes.data(), &message, sizeof message);
  std::memcpy(bytes.data() + sizeof message, mismatch.text().data(), message.text_bytes);
  return bytes;
}

Failure decode_mismatch(const MismatchMessage& message, const char* text) {
  return desync(C10D_MISMATCH_REPORTED, message.rank, message.other_rank, std::string(text, message.text_bytes))
      .of_collective(message.collective);
}

}  // namespace c10d::gloo_shim
