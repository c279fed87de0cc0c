// libcuda and libnccl, loaded when they are first needed. The host may have loaded them by their paths before: then the
// dynamic loader finds these by their SONAMEs.
#pragma once

#include <string>

#include "cuda_api.h"
#include "nccl_api.h"
#include "ops/failure.h"

namespace c10d::nccl_shim {

struct Library {
  CudaApi cuda;
  NcclApi nccl;
  /// NCCL_VERSION_CODE of what was found, such as 23007.
  int version = 0;
  int devices = 0;
  /// Why they cannot be used here; empty if they can.
  std::string missing;

  bool has_registration() const { return nccl.comm_register != nullptr && nccl.comm_deregister != nullptr; }
  bool has_windows() const { return nccl.comm_window_register != nullptr && nccl.comm_window_deregister != nullptr; }
  bool has_float8() const { return version >= nccl_version(2, 24, 0); }
};

/// Loads both at the first call, from any thread, and initialises the driver.
const Library& load_library();

/// Both; throws Failure with C10D_ERR_UNAVAILABLE if they cannot be used here.
const Library& library();

/// E.g. "2.30.7".
std::string version_text(int version);

/// E.g. "CUDA_ERROR_INVALID_VALUE: invalid argument".
std::string cuda_text(const CudaApi& cuda, CuResult result);

/// Throws Failure with C10D_ERR_BACKEND, `what`, CUDA's own text and its number unless `result` is a success.
void require(CuResult result, const char* what);
Failure cuda_failure(CuResult result, const char* what);

/// What NCCL reports of a call: its code, its text, and the last error that it logged. A lost peer is
/// C10D_ERR_NETWORK, anything else C10D_ERR_BACKEND.
Failure nccl_failure(NcclResult result, NcclComm comm, const std::string& what);

}  // namespace c10d::nccl_shim
