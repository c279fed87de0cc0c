// One rank of a communicator, behind an ncclComm_t.
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "config.h"
#include "op.h"
#include "peers.h"
#include "segment.h"
#include "turns.h"

namespace nccl_emulator {

class Communicator : public std::enable_shared_from_this<Communicator> {
 public:
  Communicator(int device, const ncclConfig_t& config) : device(device), config(config) {}

  const int device;
  const ncclConfig_t config;
  // Set by the job that makes the communicator, before its state is ncclSuccess.
  int rank = -1, ranks = 0;
  std::unique_ptr<Segment> segment;
  std::unique_ptr<Peers> peers;
  std::atomic<bool> connected{false};  ///< All of these are set.

  Turns turns;
  /// Jobs in the background.
  Turns jobs;

  bool blocking() const { return config.blocking != 0; }
  /// Grows with each abort or revocation: what was begun before ends at once.
  std::atomic<uint32_t> aborts{0};
  std::atomic<bool> destroyed{false}, revoked{false}, finalized{false};
  /// Rounds of offers so far (Slot).
  uint32_t splits = 0, shrinks = 0, grows = 0;
  bool id_for_growing = false;  ///< Made, and not yet used.

  /// As ncclCommGetAsyncError gives it. `poll`: a communicator may become ready by being asked often enough.
  ncclResult_t state(bool poll);
  /// Leaves ncclSuccess or ncclInProgress for good.
  void fail(ncclResult_t error);
  void begin_job();
  void end_job(ncclResult_t result);

  /// Gives back the memory shared with the other ranks. Nothing of the communicator may be at work; until it is
  /// connected, only the job that makes it may call this.
  void release();
  /// The other ranks learn that this one has left, and how.
  void announce(SlotState state);

  /// Numbers the op; `messages` and empty collectives take no place in the order of collectives.
  void number(Op* op);

  ncclRedOp_t add_redop(const RedOp& redop, ncclDataType_t dtype);
  bool remove_redop(ncclRedOp_t op);
  ncclResult_t find_redop(ncclRedOp_t op, ncclDataType_t dtype, const char* call, RedOp* redop);

  struct Window {
    uint64_t address;
    size_t bytes;
    uint64_t registration;  ///< With the driver.
  };
  /// Also when the communicator ends.
  static void drop(std::map<uint64_t, Window>* all);
  static bool drop(std::map<uint64_t, Window>* all, uint64_t number);
  std::map<uint64_t, Window> registrations, windows;
  uint64_t next_registration = 1;

  /// The thread inside a call; 0 if none.
  std::atomic<uint64_t> caller{0};
  std::atomic<const char*> call_of_caller{nullptr};
  bool suspended = false;
  bool used = false;  ///< Ops were launched.

 private:
  struct UserRedOp {
    RedOp redop;
    ncclDataType_t dtype;
  };
  ncclResult_t remote_state();

  std::atomic<ncclResult_t> state_{ncclSuccess};
  std::atomic<int> polls_left_{0};
  std::atomic<uint64_t> ops_{0}, collectives_{0};
  std::mutex mutex_;  // Of what follows.
  std::map<int, UserRedOp> redops_;
  std::chrono::steady_clock::time_point looked_{}, bad_news_{};
};

}  // namespace nccl_emulator

/// What the program holds. It is never freed, so that a use after its end is recognized.
struct ncclComm {
  uint64_t magic;
  std::shared_ptr<nccl_emulator::Communicator> body;
  std::atomic<bool> ended{false};

  static ncclComm_t make(std::shared_ptr<nccl_emulator::Communicator> body);
};
