// Whether the processes of the other ranks still live.
#pragma once

#include <mutex>
#include <vector>

namespace nccl_emulator {

/// Safe to use from any thread.
class Peers {
 public:
  explicit Peers(size_t ranks) : processes_(ranks) {}
  ~Peers();
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;

  /// The process of a rank, from when on its end is seen.
  void watch(int rank, int pid);
  /// Whether the process of the rank has ended. It may still be a zombie.
  bool dead(int rank);

 private:
  struct Process {
    int pid = -1;
    int fd = -1;
    bool dead = false;
  };
  std::mutex mutex_;
  std::vector<Process> processes_;
};

}  // namespace nccl_emulator
