// How the ranks of a communicator find each other.
#pragma once

#include <functional>
#include <vector>

#include "communicator.h"

namespace nccl_emulator {

using Stop = std::function<bool()>;

/// Joins the other ranks that have the same unique id, and waits for all of them.
ncclResult_t join_ranks(Communicator& communicator, const ncclUniqueId& id, int ranks, int rank, const Stop& stop);

/// Makes a communicator out of those of `members` (ranks of the parent, this one among them) that give the same color,
/// in the order of their keys. `round`: which of the parent's such rounds this is.
struct Division {
  using Offers = std::array<Offer, 2> Slot::*;
  Offers offers;
  uint32_t round;
  int color, key;
  std::vector<int> members;
};
ncclResult_t divide(Communicator& parent, const Division& division, Communicator* child, const Stop& stop);

/// Tells the others of a communicator the unique id with which it grows.
void offer_growth(Communicator& communicator, uint32_t round, const ncclUniqueId& id);
/// Waits for that of another rank.
ncclResult_t await_growth(Communicator& communicator, uint32_t round, const Stop& stop, ncclUniqueId* id);

}  // namespace nccl_emulator
