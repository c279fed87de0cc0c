// How communicators end.
#include "cuda_emulator.h"
#include "group.h"
#include "handle.h"
#include "report.h"

using namespace nccl_emulator;

namespace {

void check_group(const Communicator& communicator, const char* name) {
  if (Group::of_thread().holds(communicator))
    misuse(ncclInvalidUsage, "%s is called in a group that holds ops of the communicator", name);
}

// Ops and jobs that were begun end at once.
void stop_all(Communicator& communicator) {
  communicator.aborts++;
  communicator.jobs.wait_idle([] { return false; });
  // What a job has launched since.
  communicator.aborts++;
  communicator.turns.wait_left();
}

void leave(ncclComm_t handle, Communicator& communicator, SlotState state) {
  handle->ended = true;
  communicator.destroyed = true;
  communicator.jobs.wait_idle([] { return false; });
  Communicator::drop(&communicator.registrations);
  Communicator::drop(&communicator.windows);
  communicator.announce(state);
  // If another thread is inside, which is a fault, it may need what it would find gone.
  if (communicator.connected && !others_inside(communicator)) communicator.release();
}

}  // namespace

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  if (!comm) return ncclSuccess;
  Call call(comm, "ncclCommFinalize");
  return Group::of_thread().call([&]() -> ncclResult_t {
    if (auto result = call.ready(); result != ncclSuccess) return result;
    auto communicator = call.body();
    check_group(*communicator, "ncclCommFinalize");
    if (communicator->finalized || communicator->revoked)
      return misuse(ncclInvalidArgument, "ncclCommFinalize : the communicator is finalized or revoked already");
    communicator->finalized = true;
    Group::of_thread().add(communicator, [communicator, before = communicator->aborts.load()] {
      communicator->turns.wait_idle([&] { return communicator->aborts != before; });
      return ncclSuccess;
    });
    return ncclSuccess;
  });
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (!comm) return ncclSuccess;
  Call call(comm, "ncclCommDestroy");
  if (auto result = call.ready(); result != ncclSuccess) return result;
  auto& communicator = call.communicator();
  check_group(communicator, "ncclCommDestroy");
  // As NCCL, which waits for its kernels.
  communicator.turns.wait_idle([] { return false; });
  leave(comm, communicator, SlotState::left);
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  if (!comm) return ncclSuccess;
  Call call(comm, "ncclCommAbort");
  if (call.result() != ncclSuccess) return call.result();
  auto& communicator = call.communicator();
  check_group(communicator, "ncclCommAbort");
  stop_all(communicator);
  leave(comm, communicator, SlotState::aborted);
  return ncclSuccess;
}

ncclResult_t ncclCommRevoke(ncclComm_t comm, int flags) {
  if (!comm) return ncclSuccess;
  Call call(comm, "ncclCommRevoke");
  return Group::of_thread().call([&]() -> ncclResult_t {
    if (call.result() != ncclSuccess) return call.result();
    auto communicator = call.body();
    if (flags != 0) return refuse(ncclInvalidArgument, "ncclCommRevoke : flags %d", flags);
    if (communicator->finalized || communicator->revoked)
      return misuse(ncclInvalidArgument, "ncclCommRevoke : the communicator is finalized or revoked already");
    check_group(*communicator, "ncclCommRevoke");
    communicator->aborts++;
    communicator->jobs.wait_idle([] { return false; });
    communicator->aborts++;
    communicator->revoked = true;
    Group::of_thread().add(communicator, [communicator] {
      communicator->turns.wait_idle([] { return false; });
      return ncclSuccess;
    });
    return ncclSuccess;
  });
}
