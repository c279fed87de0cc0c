// Where the calls of the ranks part, for transports that begin collectives before earlier ones have ended.
#pragma once

#include <cstdint>

#include "ops/op.h"

namespace c10d {

/// The first collective that the ranks have called differently, as far as a transport knows. From there on it takes none any
/// further, or a rank could take the data of one call for that of another; the engine waits for those before it.
class Divergence {
 public:
  /// Takes note of a failure if it is a mismatch of a collective; gives it back.
  const Failure& note(const Failure& failure) {
    const uint64_t number = failure.collective();
    if (number != 0 && (number_ == 0 || number < number_)) number_ = number;
    return failure;
  }
  /// Whether an op is that collective or one after it. Messages never are.
  bool reaches(const Op& op) const { return number_ != 0 && op.number >= number_; }

 private:
  uint64_t number_ = 0;
};

}  // namespace c10d
