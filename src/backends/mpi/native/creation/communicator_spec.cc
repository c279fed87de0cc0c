#include "creation/communicator_spec.h"

#include <functional>

#include "process/runtime.h"

namespace c10d::mpi_shim {

MPI_Comm CommunicatorSpec::make(uint64_t number) const {
  auto& runtime = Runtime::get();
  // Before any member can have the group and leave it.
  if (number != 0) runtime.messenger().join(self, number);
  MPI_Group world = MPI_GROUP_NULL;
  MPI_Group members = MPI_GROUP_NULL;
  require_success(MPI_Comm_group(MPI_COMM_WORLD, &world), "MPI_Comm_group");
  const int included = MPI_Group_incl(world, static_cast<int>(ranks.size()), ranks.data(), &members);
  MPI_Group_free(&world);
  require_success(included, "MPI_Group_incl");
  const auto tag = std::hash<std::string>{}(group) % static_cast<size_t>(runtime.max_tag());
  MPI_Comm communicator = MPI_COMM_NULL;
  // The process must be able to end even if others never join.
  runtime.unfinished++;
  runtime.making++;
  int made = MPI_SUCCESS;
  {
    const IdleYield::Wait wait(runtime.idle_yield());
    made = MPI_Comm_create_group(MPI_COMM_WORLD, members, static_cast<int>(tag), &communicator);
  }
  runtime.making--;
  runtime.unfinished--;
  MPI_Group_free(&members);
  require_success(made, "MPI_Comm_create_group");
  MPI_Comm_set_errhandler(communicator, MPI_ERRORS_RETURN);
  return communicator;
}

}  // namespace c10d::mpi_shim
