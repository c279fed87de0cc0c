// What a rank publishes in the store under "<context>/<rank>": where it listens, and the number that each peer must
// present when it dials. The same bytes as PyTorch's (gloo::transport::tcp of 2023 and later), so its ranks can join.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mesh/address.h"

namespace c10d::gloo_shim {

struct RankValue {
  std::string host_name;
  SocketAddress address;
  /// By dialling rank. Empty if the publisher expects the dialling rank itself as the number.
  std::vector<int64_t> connection_numbers;

  std::vector<char> encode() const;
  /// Throws Failure if the bytes are not such a value.
  static RankValue decode(const std::vector<char>& bytes, int world_size);
};

}  // namespace c10d::gloo_shim
