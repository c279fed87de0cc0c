#include "process/idle_yield.h"

#include <dlfcn.h>
#include <mpi.h>

namespace c10d::mpi_shim {

void IdleYield::turn_off() {
#if defined(OPEN_MPI)
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto set = reinterpret_cast<Set>(dlsym(RTLD_DEFAULT, "opal_progress_set_yield_when_idle"));
  if (set != nullptr && set(false)) set_ = set;
#endif
}

IdleYield::Wait::Wait(IdleYield& idle_yield) : idle_yield_(idle_yield) {
  const std::lock_guard<std::mutex> lock(idle_yield_.mutex_);
  if (idle_yield_.waits_++ == 0 && idle_yield_.set_ != nullptr) idle_yield_.set_(true);
}

IdleYield::Wait::~Wait() {
  const std::lock_guard<std::mutex> lock(idle_yield_.mutex_);
  if (--idle_yield_.waits_ == 0 && idle_yield_.set_ != nullptr) idle_yield_.set_(false);
}

}  // namespace c10d::mpi_shim
