// What a rank publishes in the store under "<context>/<rank>": where it listens, and the number each peer must present
// when it dials. Byte for byte PyTorch's (gloo::transport::tcp of 2023 and later), so its ranks can join.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mesh/address.h"

namespace c10d::gloo_shim {

struct RankValue {
  std::string host_name;
  SocketAddress address;
  /// By dialling rank. Empty if the publisher wants the dialling rank's own number instead.
  std::vector<int64_t> connection_numbers;

  std::vector<char> encode() const;
  /// Throws Failure if the bytes are no such value.
  static RankValue decode(const std::vector<char>& bytes, int world_size);
};

}  // namespace c10d::gloo_shim
