// The calls of the API that concern no communicator.
#include <string>
#include <system_error>

#include "config.h"
#include "group.h"
#include "handle.h"
#include "report.h"
#include "segment.h"
#include "version.h"

using namespace nccl_emulator;

ncclResult_t ncclGetVersion(int* version) {
  if (auto result = check_pointer(version, "GetVersion", "version"); result != ncclSuccess) return result;
  *version = release;
  return ncclSuccess;
}

const char* ncclemu_name(void) {
  static const auto* name = new std::string("NCCL emulator " + release_text() + " (not NVIDIA's library)");
  return name->c_str();
}

int ncclemu_last_config(const char* field) { return last_config(field); }

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  if (auto result = check_pointer(id, "GetUniqueId", "out"); result != ncclSuccess) return result;
  try {
    *id = SegmentName::make();
  } catch (const std::system_error& error) {
    return refuse(ncclSystemError, "ncclGetUniqueId: %s", error.what());
  }
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error (run with NCCL_DEBUG=INFO for details)";
    case ncclSystemError:
      return "unhandled system error (run with NCCL_DEBUG=INFO for details)";
    case ncclInternalError:
      return "internal error - please report this issue to the NCCL developers";
    case ncclInvalidArgument:
      return "invalid argument (run with NCCL_DEBUG=WARN for details)";
    case ncclInvalidUsage:
      return "invalid usage (run with NCCL_DEBUG=WARN for details)";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
    case ncclTimeout:
      if (release >= code(30, 3)) return "timeout";
  }
  return "unknown result code";
}

const char* ncclGetLastError(ncclComm_t) { return last_error(); }

ncclResult_t ncclGroupStart(void) {
  Group::of_thread().start();
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void) { return Group::of_thread().end(); }

ncclResult_t ncclGroupSimulateEnd(ncclSimInfo_t* info) {
  if (info && info->magic != NCCL_SIM_INFO_MAGIC) {
    Group::of_thread().fail(
        refuse(ncclInvalidArgument, "ncclSimInfo_t argument not initialized via NCCL_SIM_INFO_INITIALIZER"));
  }
  auto result = Group::of_thread().simulate_end();
  if (result == ncclSuccess && info) info->estimatedTime = 1.0F;
  return result;
}
