#pragma once

#include <mutex>

namespace c10d::mpi_shim {

/// If a host has more ranks than cores, Open MPI yields to other threads in every call that finds nothing to do. On a
/// busy machine polling an op then takes milliseconds. The engine itself pauses between polls, so MPI yields only in
/// calls that wait in it.
class IdleYield {
 public:
  /// After MPI_Init_thread.
  void turn_off();

  /// While it exists MPI yields again, if it did in the beginning.
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
  /// Returns the previous value.
  using Set = bool (*)(bool);

  std::mutex mutex_;
  /// Null if there is no such setting.
  Set set_ = nullptr;
  int waits_ = 0;
};

}  // namespace c10d::mpi_shim
