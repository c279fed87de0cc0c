// What the communicator of a group is made of.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "peers/membership.h"

namespace c10d::mpi_shim {

/// It outlives the transport, since a rank may have to take part in making a communicator that it does not need any
/// more: see Turns.
struct CommunicatorSpec {
  std::string group;
  /// In MPI_COMM_WORLD.
  std::vector<int> ranks;
  std::shared_ptr<Membership> self;

  /// Waits in MPI until every member does the same. `number`: that of the group, 0 if the members have not agreed on
  /// one. Called within Runtime::call(); throws Failure.
  MPI_Comm make(uint64_t number) const;
};

}  // namespace c10d::mpi_shim
