#include "call.h"

#include <algorithm>

namespace c10d::mpi_shim {

uint8_t* Call::add_buffer(size_t bytes) {
  // Not initialized: it is written in full before it is read.
  buffers.emplace_back(new uint8_t[std::max<size_t>(bytes, 1)]);
  return buffers.back().get();
}

int* Call::add_numbers(size_t count) {
  numbers.push_back(std::make_unique<std::vector<int>>(count));
  return numbers.back()->data();
}

void Call::clear() {
  op = nullptr;
  requests.clear();
  unmatched = sender_left = agreeing = false;
  if (finish) finish = nullptr;
  if (next_step) next_step = nullptr;
  buffers.clear();
  numbers.clear();
}

}  // namespace c10d::mpi_shim
