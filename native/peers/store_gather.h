// An all-gather of small values over the group's store, while the group is made.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "engine/transport.h"

namespace c10d {

/// All ranks call the same all-gathers in the same order.
class StoreGather {
 public:
  /// `name` begins the keys. `look` is called now and then while it waits for values, and throws to end that.
  StoreGather(const Config& config, Exchange& exchange, std::string name, std::function<void()> look)
      : config_(config), exchange_(exchange), name_(std::move(name)), look_(std::move(look)) {}
  StoreGather(const StoreGather&) = delete;
  StoreGather& operator=(const StoreGather&) = delete;

  /// The values of all ranks, by rank. Throws Failure naming the missing ranks.
  std::vector<std::vector<char>> all_gather(const void* value, size_t bytes);

 private:
  const Config& config_;
  Exchange& exchange_;
  const std::string name_;
  const std::function<void()> look_;
  unsigned round_ = 0;
};

}  // namespace c10d
