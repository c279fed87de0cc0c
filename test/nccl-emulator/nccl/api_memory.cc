// Memory, its registration, and what a communicator uses of it.
#include "cuda_emulator.h"
#include "driver_api.h"
#include "handle.h"
#include "injected_faults.h"
#include "report.h"

using namespace nccl_emulator;

namespace {

ncclResult_t add_registration(const char* name, Communicator& communicator, const void* buffer, size_t bytes,
                              uint64_t* number, std::map<uint64_t, Communicator::Window>* into) {
  auto address = reinterpret_cast<uint64_t>(buffer);
  if (bytes == 0 || !cuemu_alias(communicator.device, address, bytes))
    return misuse(ncclInvalidArgument, "%s : %p is not memory of device %d, %zu bytes long", name, buffer,
                  communicator.device, bytes);
  auto& faults = InjectedFaults::of_process();
  if (faults.refuse_memory && faults.concern(communicator.rank))
    return refuse(ncclInvalidArgument, "%s : injected refusal of %p", name, buffer);
  *number = communicator.next_registration++;
  (*into)[*number] = {address, bytes, cuemu_register(address, bytes, name)};
  return ncclSuccess;
}

}  // namespace

ncclResult_t ncclMemAlloc(void** pointer, size_t bytes) {
  if (auto result = check_pointer(pointer, "ncclMemAlloc", "ptr"); result != ncclSuccess) return result;
  *pointer = nullptr;
  if (bytes == 0) return refuse(ncclInvalidArgument, "ncclMemAlloc : no bytes");
  CUdeviceptr address = 0;
  if (int error = cuMemAlloc_v2(&address, bytes); error != 0)
    return refuse(ncclUnhandledCudaError, "Cuda failure %d in ncclMemAlloc", error);
  *pointer = reinterpret_cast<void*>(address);
  return ncclSuccess;
}

ncclResult_t ncclMemFree(void* pointer) {
  if (!pointer) return ncclSuccess;
  if (int error = cuMemFree_v2(reinterpret_cast<CUdeviceptr>(pointer)); error != 0)
    return refuse(ncclUnhandledCudaError, "Cuda failure %d in ncclMemFree", error);
  return ncclSuccess;
}

ncclResult_t ncclCommRegister(ncclComm_t comm, void* buffer, size_t bytes, void** handle) {
  Call call(comm, "ncclCommRegister");
  if (auto result = call.ready(); result != ncclSuccess) return result;
  if (auto result = check_pointer(handle, "ncclCommRegister", "handle"); result != ncclSuccess) return result;
  uint64_t number = 0;
  auto& communicator = call.communicator();
  auto result = add_registration("ncclCommRegister", communicator, buffer, bytes, &number, &communicator.registrations);
  *handle = reinterpret_cast<void*>(number);
  return result;
}

ncclResult_t ncclCommDeregister(ncclComm_t comm, void* handle) {
  Call call(comm, "ncclCommDeregister");
  if (call.result() != ncclSuccess) return call.result();
  auto& registrations = call.communicator().registrations;
  if (Communicator::drop(&registrations, reinterpret_cast<uint64_t>(handle))) return ncclSuccess;
  return misuse(ncclInvalidArgument, "ncclCommDeregister : unknown handle %p", handle);
}

ncclResult_t ncclCommWindowRegister(ncclComm_t comm, void* buffer, size_t bytes, ncclWindow_t* window, int flags) {
  Call call(comm, "ncclCommWindowRegister");
  if (auto result = call.ready(); result != ncclSuccess) return result;
  if (auto result = check_pointer(window, "ncclCommWindowRegister", "win"); result != ncclSuccess) return result;
  *window = nullptr;
  if (flags & ~3) return refuse(ncclInvalidArgument, "ncclCommWindowRegister : flags %d", flags);
  uint64_t number = 0;
  auto& communicator = call.communicator();
  auto result = add_registration("ncclCommWindowRegister", communicator, buffer, bytes, &number, &communicator.windows);
  *window = reinterpret_cast<ncclWindow_t>(number);
  return result;
}

ncclResult_t ncclCommWindowDeregister(ncclComm_t comm, ncclWindow_t window) {
  Call call(comm, "ncclCommWindowDeregister");
  if (call.result() != ncclSuccess) return call.result();
  auto& windows = call.communicator().windows;
  if (!window || Communicator::drop(&windows, reinterpret_cast<uint64_t>(window))) return ncclSuccess;
  return misuse(ncclInvalidArgument, "ncclCommWindowDeregister : unknown window");
}

ncclResult_t ncclWinGetUserPtr(ncclComm_t comm, ncclWindow_t window, void** pointer) {
  Call call(comm, "ncclWinGetUserPtr");
  if (auto result = call.ready(); result != ncclSuccess) return result;
  if (auto result = check_pointer(pointer, "ncclWinGetUserPtr", "outUserPtr"); result != ncclSuccess) return result;
  auto found = call.communicator().windows.find(reinterpret_cast<uint64_t>(window));
  if (found == call.communicator().windows.end())
    return misuse(ncclInvalidArgument, "ncclWinGetUserPtr : unknown window");
  *pointer = reinterpret_cast<void*>(found->second.address);
  return ncclSuccess;
}

ncclResult_t ncclCommSuspend(ncclComm_t comm, int flags) {
  Call call(comm, "ncclCommSuspend");
  if (auto result = call.ready(); result != ncclSuccess) return result;
  auto& communicator = call.communicator();
  if (flags != 1 || communicator.suspended) return refuse(ncclInvalidArgument, "ncclCommSuspend : flags %d", flags);
  if (!communicator.turns.idle()) return misuse(ncclInvalidUsage, "ncclCommSuspend : ops are in flight");
  communicator.suspended = true;
  return ncclSuccess;
}

ncclResult_t ncclCommResume(ncclComm_t comm) {
  Call call(comm, "ncclCommResume");
  if (auto result = call.ready(); result != ncclSuccess) return result;
  if (!call.communicator().suspended) return refuse(ncclInvalidUsage, "ncclCommResume : it is not suspended");
  call.communicator().suspended = false;
  return ncclSuccess;
}

ncclResult_t ncclCommMemStats(ncclComm_t comm, ncclCommMemStat_t stat, uint64_t* value) {
  Call call(comm, "ncclCommMemStats");
  if (auto result = call.ready(); result != ncclSuccess) return result;
  if (auto result = check_pointer(value, "ncclCommMemStats", "value"); result != ncclSuccess) return result;
  // The emulator's communicators have no memory on the device.
  switch (stat) {
    case ncclStatGpuMemSuspended:
      *value = call.communicator().suspended ? 1 : 0;
      return ncclSuccess;
    case ncclStatGpuMemSuspend:
    case ncclStatGpuMemPersist:
    case ncclStatGpuMemTotal:
      *value = 0;
      return ncclSuccess;
  }
  return refuse(ncclInvalidArgument, "ncclCommMemStats : statistic %d", static_cast<int>(stat));
}
