// The results of each collective, computed from the contributions of all ranks.
#pragma once

#include <vector>

#include "software_device/flight.h"

namespace c10d::softdev {

/// Whether the op reads its outputs.
bool is_in_place(uint32_t opcode);

/// Whether elements of this dtype can be reduced in this way.
bool can_reduce(uint32_t dtype, uint32_t reduce_op);

/// One for each output.
std::vector<Bytes> results_of(const Flight& flight, const std::vector<FlightPtr>& ranks);

/// The first two ranks of an all-to-all of which one sends what the other does not expect.
struct SplitMismatch {
  int32_t sender;
  int32_t receiver;
  uint64_t sent;
  uint64_t expected;
};
std::optional<SplitMismatch> split_mismatch(const std::vector<FlightPtr>& ranks);

}  // namespace c10d::softdev
