// The same MPI calls from C++, as a library that the Bun rank loads, so that both run in one process.
#include <mpi.h>

#include <chrono>
#include <cstdint>

namespace {

using Clock = std::chrono::steady_clock;

enum Op : int32_t { kAllReduce = 0, kBroadcast = 1, kAllToAll = 2 };

int size_of_world() {
  int size = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

void block(int32_t op, float* to, const float* from, int count, int part) {
  switch (op) {
    case kAllReduce:
      MPI_Allreduce(MPI_IN_PLACE, to, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
      return;
    case kBroadcast:
      MPI_Bcast(to, count, MPI_FLOAT, 0, MPI_COMM_WORLD);
      return;
    default:
      MPI_Alltoall(from, part, MPI_FLOAT, to, part, MPI_FLOAT, MPI_COMM_WORLD);
  }
}

MPI_Request begin(int32_t op, float* to, const float* from, int count, int part) {
  MPI_Request request = MPI_REQUEST_NULL;
  switch (op) {
    case kAllReduce:
      MPI_Iallreduce(MPI_IN_PLACE, to, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &request);
      break;
    case kBroadcast:
      MPI_Ibcast(to, count, MPI_FLOAT, 0, MPI_COMM_WORLD, &request);
      break;
    default:
      MPI_Ialltoall(from, part, MPI_FLOAT, to, part, MPI_FLOAT, MPI_COMM_WORLD, &request);
  }
  return request;
}

}  // namespace

/// Microseconds of each iteration; with `blocking` by MPI_Allreduce and similar calls, else by MPI_Iallreduce and
/// MPI_Test.
extern "C" __attribute__((visibility("default"))) void mpi_bench(int32_t op, int32_t blocking, float* to,
                                                                 const float* from, int32_t count, int32_t iterations,
                                                                 double* micros) {
  const int part = count / size_of_world();
  for (int32_t i = 0; i < iterations; i++) {
    const auto began = Clock::now();
    if (blocking != 0) {
      block(op, to, from, count, part);
    } else {
      MPI_Request request = begin(op, to, from, count, part);
      int over = 0;
      while (over == 0) MPI_Test(&request, &over, MPI_STATUS_IGNORE);
    }
    micros[i] = std::chrono::duration<double, std::micro>(Clock::now() - began).count();
  }
}
