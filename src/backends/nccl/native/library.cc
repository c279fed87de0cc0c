#include "library.h"

#include <dlfcn.h>

namespace c10d::nccl_shim {

namespace {

constexpr const char* kCuda = "libcuda.so.1";
constexpr const char* kNccl = "libnccl.so.2";

class Loaded {
 public:
  Loaded(const char* name, std::string& missing) : name_(name), missing_(missing) {
    handle_ = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (handle_ != nullptr) return;
    const char* reason = ::dlerror();
    missing_ = reason == nullptr ? std::string(name) + " cannot be loaded" : reason;
  }

  template <class Function>
  void optional(Function& function, const char* symbol) const {
    function = handle_ == nullptr ? nullptr : reinterpret_cast<Function>(::dlsym(handle_, symbol));
  }
  template <class Function>
  void needed(Function& function, const char* symbol) const {
    optional(function, symbol);
    if (function == nullptr && missing_.empty()) missing_ = std::string(name_) + " has no " + symbol;
  }

 private:
  const char* const name_;
  std::string& missing_;
  void* handle_ = nullptr;
};

void open_cuda(Library& found) {
  const Loaded cuda(kCuda, found.missing);
  auto& api = found.cuda;
  cuda.needed(api.init, "cuInit");
  cuda.needed(api.driver_get_version, "cuDriverGetVersion");
  cuda.needed(api.get_error_name, "cuGetErrorName");
  cuda.needed(api.get_error_string, "cuGetErrorString");
  cuda.needed(api.device_get_count, "cuDeviceGetCount");
  cuda.needed(api.device_get, "cuDeviceGet");
  cuda.needed(api.primary_ctx_retain, "cuDevicePrimaryCtxRetain");
  cuda.needed(api.primary_ctx_release, "cuDevicePrimaryCtxRelease_v2");
  cuda.needed(api.ctx_get_current, "cuCtxGetCurrent");
  cuda.needed(api.ctx_set_current, "cuCtxSetCurrent");
  cuda.needed(api.ctx_get_stream_priority_range, "cuCtxGetStreamPriorityRange");
  cuda.needed(api.stream_create_with_priority, "cuStreamCreateWithPriority");
  cuda.needed(api.stream_destroy, "cuStreamDestroy_v2");
  cuda.needed(api.stream_get_ctx, "cuStreamGetCtx");
  cuda.needed(api.stream_wait_event, "cuStreamWaitEvent");
  cuda.needed(api.event_create, "cuEventCreate");
  cuda.needed(api.event_destroy, "cuEventDestroy_v2");
  cuda.needed(api.event_record, "cuEventRecord");
  cuda.needed(api.event_query, "cuEventQuery");
  cuda.needed(api.mem_alloc, "cuMemAlloc_v2");
  cuda.needed(api.mem_free, "cuMemFree_v2");
  cuda.needed(api.memcpy_dtod_async, "cuMemcpyDtoDAsync_v2");
  cuda.needed(api.mem_get_address_range, "cuMemGetAddressRange_v2");
  cuda.needed(api.pointer_get_attribute, "cuPointerGetAttribute");
}

void open_nccl(Library& found) {
  const Loaded nccl(kNccl, found.missing);
  auto& api = found.nccl;
  nccl.needed(api.get_version, "ncclGetVersion");
  if (api.get_version != nullptr && found.missing.empty()) {
    api.get_version(&found.version);
    if (found.version < kOldestNccl) {
      found.missing = "libnccl.so.2 is NCCL " + version_text(found.version) + ", which is too old: 2.18 is needed";
      return;
    }
  }
  nccl.needed(api.get_unique_id, "ncclGetUniqueId");
  nccl.needed(api.comm_init_rank_config, "ncclCommInitRankConfig");
  nccl.needed(api.comm_finalize, "ncclCommFinalize");
  nccl.needed(api.comm_destroy, "ncclCommDestroy");
  nccl.needed(api.comm_abort, "ncclCommAbort");
  nccl.needed(api.comm_split, "ncclCommSplit");
  nccl.needed(api.get_error_string, "ncclGetErrorString");
  nccl.needed(api.get_last_error, "ncclGetLastError");
  nccl.needed(api.comm_get_async_error, "ncclCommGetAsyncError");
  nccl.needed(api.red_op_create_pre_mul_sum, "ncclRedOpCreatePreMulSum");
  nccl.needed(api.red_op_destroy, "ncclRedOpDestroy");
  nccl.needed(api.group_start, "ncclGroupStart");
  nccl.needed(api.group_end, "ncclGroupEnd");
  nccl.needed(api.reduce, "ncclReduce");
  nccl.needed(api.broadcast, "ncclBroadcast");
  nccl.needed(api.all_reduce, "ncclAllReduce");
  nccl.needed(api.reduce_scatter, "ncclReduceScatter");
  nccl.needed(api.all_gather, "ncclAllGather");
  nccl.needed(api.send, "ncclSend");
  nccl.needed(api.recv, "ncclRecv");
  nccl.optional(api.comm_register, "ncclCommRegister");
  nccl.optional(api.comm_deregister, "ncclCommDeregister");
  nccl.optional(api.comm_window_register, "ncclCommWindowRegister");
  nccl.optional(api.comm_window_deregister, "ncclCommWindowDeregister");
}

void start_driver(Library& found) {
  if (!found.missing.empty()) return;
  const auto fails = [&](CuResult result, const char* what) {
    if (result == CuResult::success) return false;
    found.missing = std::string(what) + ": " + cuda_text(found.cuda, result);
    return true;
  };
  if (fails(found.cuda.init(0), "cuInit")) return;
  if (fails(found.cuda.device_get_count(&found.devices), "cuDeviceGetCount")) return;
  if (found.devices == 0) found.missing = "the CUDA driver finds no device";
}

Library open() {
  Library found{};
  open_cuda(found);
  if (found.missing.empty()) open_nccl(found);
  start_driver(found);
  return found;
}

}  // namespace

const Library& load_library() {
  static const Library loaded = open();
  return loaded;
}

const Library& library() {
  const Library& loaded = load_library();
  if (!loaded.missing.empty()) throw Failure(C10D_ERR_UNAVAILABLE, loaded.missing);
  return loaded;
}

std::string version_text(int version) {
  // Up to 2.8 the code had a digit less.
  const int major = version < 10'000 ? version / 1'000 : version / 10'000;
  const int minor = version < 10'000 ? version / 100 % 10 : version / 100 % 100;
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(version % 100);
}

std::string cuda_text(const CudaApi& cuda, CuResult result) {
  const char* name = nullptr;
  const char* text = nullptr;
  cuda.get_error_name(result, &name);
  cuda.get_error_string(result, &text);
  std::string all = name != nullptr ? name : "CUDA error " + std::to_string(static_cast<int>(result));
  if (text != nullptr) all += std::string(": ") + text;
  return all;
}

Failure cuda_failure(CuResult result, const char* what) {
  return Failure::of_device(std::string(what) + ": " + cuda_text(load_library().cuda, result),
                            static_cast<int>(result));
}

void require(CuResult result, const char* what) {
  if (result != CuResult::success) throw cuda_failure(result, what);
}

Failure nccl_failure(NcclResult result, NcclComm comm, const std::string& what) {
  const auto& nccl = load_library().nccl;
  std::string text =
      what + ": " + nccl.get_error_string(result) + " (ncclResult " + std::to_string(static_cast<int>(result)) + ")";
  const char* logged = nccl.get_last_error(comm);
  if (logged != nullptr && *logged != '\0') text += ", last error: " + std::string(logged);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return {result == NcclResult::remote_error ? C10D_ERR_NETWORK : C10D_ERR_BACKEND, text};
}

}  // namespace c10d::nccl_shim
