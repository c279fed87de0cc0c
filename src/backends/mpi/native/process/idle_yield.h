#pragma once

#include <mutex>

namespace c10d::mpi_shim {

/// Where a host has more ranks than cores, Open MPI gives way to other threads in every call that finds nothing to do. On a busy
/// machine a look at an op then takes milliseconds. The engine pauses by itself between its looks, so that is left to calls that
/// wait in MPI.
class IdleYield {
 public:
  /// After MPI_Init_thread.
  void turn_off();

  /// While it lives MPI gives way again, if it did in the beginning.
  class Wait {
   public:
    explicit Wait(IdleYield& idle_yield);
    ~Wait();
    Wait(const Wait&) = delete;
    Wait& operator=(const Wait&) = delete;

   private:
    IdleYield& idle_yield_;
  };

 private:
  /// Gives what was set before.
  using Set = bool (*)(bool);

  std::mutex mutex_;
  /// Null if there is nothing to set.
  Set set_ = nullptr;
  int waits_ = 0;
};

}  // namespace c10d::mpi_shim
