#include "process/mpi_host.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "ops/failure.h"
#include "process/runtime.h"

using c10d::mpi_shim::Runtime;

namespace {

char shared[C10D_MPI_SHARED];
MPI_Request sharing = MPI_REQUEST_NULL;

}  // namespace

void c10d_mpi_start(int32_t multiple, int32_t mixed) { Runtime::get().start(multiple != 0, mixed != 0); }

int32_t c10d_mpi_state(void) { return static_cast<int32_t>(Runtime::get().state()); }

uint32_t c10d_mpi_error(char* text, uint32_t capacity) {
  const std::string error = Runtime::get().error();
  const auto bytes = std::min<size_t>(error.size(), capacity);
  if (bytes > 0) std::memcpy(text, error.data(), bytes);
  return static_cast<uint32_t>(bytes);
}

int32_t c10d_mpi_rank(void) { return Runtime::get().rank(); }

int32_t c10d_mpi_size(void) { return Runtime::get().size(); }

int32_t c10d_mpi_any_thread(void) { return Runtime::get().any_thread() ? 1 : 0; }

int32_t c10d_mpi_share(const void* bytes) {
  auto& runtime = Runtime::get();
  if (runtime.rank() == 0) std::memcpy(shared, bytes, C10D_MPI_SHARED);
  const auto failure = c10d::attempt([&] {
    runtime.call([&] {
      const int code = MPI_Ibcast(shared, C10D_MPI_SHARED, MPI_BYTE, 0, MPI_COMM_WORLD, &sharing);
      c10d::mpi_shim::require_success(code, "MPI_Ibcast");
    });
  });
  return failure ? failure->status() : C10D_OK;
}

int32_t c10d_mpi_shared(void* bytes) {
  int over = 0;
  const auto failure = c10d::attempt([&] {
    Runtime::get().call(
        [&] { c10d::mpi_shim::require_success(MPI_Test(&sharing, &over, MPI_STATUS_IGNORE), "MPI_Test"); });
  });
  if (failure) return failure->status();
  if (over != 0) std::memcpy(bytes, shared, C10D_MPI_SHARED);
  return over;
}

uint32_t c10d_mpi_take_turn(void) { return static_cast<uint32_t>(Runtime::get().turns().take()); }

void c10d_mpi_settle(uint32_t turn, const void* decision, uint32_t bytes, const int32_t* missing, uint32_t count) {
  uint64_t number = 0;
  if (bytes == sizeof number) std::memcpy(&number, decision, sizeof number);
  c10d::attempt([&] { Runtime::get().settle_turn(turn, number, std::vector<int>(missing, missing + count)); });
}

void c10d_mpi_end(int32_t code) { Runtime::get().end_process(code); }
