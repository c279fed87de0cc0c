#include "engine/transport.h"

namespace c10d {

Options::Options(const char* data, size_t bytes) {
  const std::string all(data == nullptr ? "" : data, data == nullptr ? 0 : bytes);
  size_t begin = 0;
  while (begin < all.size()) {
    auto end = all.find('\0', begin);
    if (end == std::string::npos) end = all.size();
    const auto entry = all.substr(begin, end - begin);
    const auto equals = entry.find('=');
    if (equals == std::string::npos) throw Failure(C10D_ERR_INVALID, "option without a value: " + entry);
    entries_.emplace_back(entry.substr(0, equals), entry.substr(equals + 1));
    begin = end + 1;
  }
}

std::string Options::get(const std::string& key, const std::string& fallback) const {
  for (const auto& [name, value] : entries_) {
    if (name == key) return value;
  }
  return fallback;
}

}  // namespace c10d
