// What the emulator has recorded against the program.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <string>

#include "cuda_emulator.h"

namespace c10d::test {

/// Faults of the program since it was made: there must be none at its end, unless they were forgiven.
class NoFaults {
 public:
  NoFaults() : before_(cuemu_faults()) {}
  ~NoFaults() { CHECK_MESSAGE(cuemu_faults() == before_, texts()); }
  NoFaults(const NoFaults&) = delete;
  NoFaults& operator=(const NoFaults&) = delete;

  /// How many there were; the next ones count from here.
  uint64_t forgive() {
    const uint64_t count = cuemu_faults() - before_;
    before_ += count;
    return count;
  }
  std::string texts() const {
    std::string all;
    for (uint64_t i = before_; i < cuemu_faults(); i++) {
      char text[600] = "";
      cuemu_fault(i, text, sizeof text);
      all += std::string(text) + "; ";
    }
    return all;
  }

 private:
  uint64_t before_;
};

}  // namespace c10d::test
