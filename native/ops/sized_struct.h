// Structs of the ABI that may grow: the rules are in c10d.h.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "ops/failure.h"

namespace c10d {

/// No version of a struct will be larger.
constexpr uint32_t kLargestStruct = 4096;

/// The size that a caller put into the first field of a struct. Throws Failure if it is impossible.
template <class Struct>
uint32_t claimed_size(const Struct* from, const char* name) {
  if (from == nullptr) throw Failure(C10D_ERR_INVALID, std::string(name) + " is NULL");
  uint32_t size = 0;
  std::memcpy(&size, from, sizeof size);
  if (size < 8 || size % 8 != 0 || size > kLargestStruct) {
    throw Failure(C10D_ERR_INVALID, std::string(name) + ".size is " + std::to_string(size) +
                                        ": it must be the size of the struct in bytes");
  }
  return size;
}

/// A struct of this size that the caller filled in. Missing fields are 0. Throws Failure if a byte beyond the fields
/// that this library knows is not 0.
template <class Struct>
Struct read_struct(const Struct* from, uint32_t size, const char* name) {
  Struct known{};
  std::memcpy(static_cast<void*>(&known), from, std::min<size_t>(size, sizeof known));
  const auto* const bytes = reinterpret_cast<const unsigned char*>(from);
  if (size > sizeof known &&
      std::any_of(bytes + sizeof known, bytes + size, [](unsigned char byte) { return byte != 0; })) {
    throw Failure(C10D_ERR_INVALID,
                  std::string(name) + " has a field that this library is too old for: use a newer one");
  }
  return known;
}

/// Writes a struct of the size that the caller knows.
template <class Struct>
void write_struct(const Struct& from, void* to, uint32_t size) {
  std::memcpy(to, &from, std::min<size_t>(size, sizeof from));
  if (size > sizeof from) std::memset(static_cast<unsigned char*>(to) + sizeof from, 0, size - sizeof from);
}

}  // namespace c10d
