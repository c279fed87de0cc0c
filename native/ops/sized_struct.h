// How structs of the ABI grow: the rules are in c10d.h.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "ops/failure.h"

namespace c10d {

/// What no version of a struct will ever come to.
constexpr uint32_t kLargestStruct = 4096;

/// The size that a caller has put into the first field of a struct. Throws Failure for one that cannot be.
template <class Struct>
uint32_t claimed_size(const Struct* from, const char* name) {
  if (from == nullptr) throw Failure(C10D_ERR_INVALID, std::string(name) + " is NULL");
  uint32_t size = 0;
  std::memcpy(&size, from, sizeof size);
  if (size < 8 || size % 8 != 0 || size > kLargestStruct) {
    throw Failure(C10D_ERR_INVALID, std::string(name) + ".size is " + std::to_string(size) +
                                        ": it has to be the size of the struct in bytes");
  }
  return size;
}

/// A struct that the caller has filled in, of this size: what is missing is 0. Throws Failure if there is something in what
/// this library does not know.
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

/// Gives the caller a struct of the size that it knows.
template <class Struct>
void write_struct(const Struct& from, void* to, uint32_t size) {
  std::memcpy(to, &from, std::min<size_t>(size, sizeof from));
  if (size > sizeof from) std::memset(static_cast<unsigned char*>(to) + sizeof from, 0, size - sizeof from);
}

}  // namespace c10d
