// Where the calls of the ranks diverge, for transports that start collectives before earlier ones have ended.
#pragma once

#include <cstdint>

#include "ops/op.h"

namespace c10d {

/// The first collective that the ranks called differently, as far as a transport knows. The transport drives no
/// collective from there on, or a rank could take the data of one call for that of another. The engine waits for those
/// before it.
class Divergence {
 public:
  /// Records a failure if it is a mismatch of a collective. Returns it.
  const Failure& note(const Failure& failure) {
    const uint64_t number = failure.collective();
    if (number != 0 && (number_ == 0 || number < number_)) number_ = number;
    return failure;
  }
  /// Whether an op is that collective or a later one. False for messages.
  bool reaches(const Op& op) const { return number_ != 0 && op.number >= number_; }

 private:
  uint64_t number_ = 0;
};

}  // namespace c10d
