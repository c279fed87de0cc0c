// NCCL's C API as far as the emulator has it, declared by ourselves. Numbers and layouts are NCCL's ABI.
#pragma once

#include <climits>
#include <cstddef>
#include <cstdint>

#define NCCL_EMULATOR_API extern "C" __attribute__((visibility("default")))

struct ncclComm;
using ncclComm_t = ncclComm*;
struct ncclWindow_vidmem;
using ncclWindow_t = ncclWindow_vidmem*;
struct CUstream_st;
using cudaStream_t = CUstream_st*;

struct ncclUniqueId {
  char internal[128];
};

enum ncclResult_t {
  ncclSuccess = 0,
  ncclUnhandledCudaError = 1,
  ncclSystemError = 2,
  ncclInternalError = 3,
  ncclInvalidArgument = 4,
  ncclInvalidUsage = 5,
  ncclRemoteError = 6,
  ncclInProgress = 7,
  ncclTimeout = 8,
};

enum ncclRedOp_t {
  ncclSum = 0,
  ncclProd = 1,
  ncclMax = 2,
  ncclMin = 3,
  ncclAvg = 4,
  ncclNumOps = 5,
  ncclMaxRedOp = INT_MAX
};

enum ncclDataType_t {
  ncclInt8 = 0,
  ncclUint8 = 1,
  ncclInt32 = 2,
  ncclUint32 = 3,
  ncclInt64 = 4,
  ncclUint64 = 5,
  ncclFloat16 = 6,
  ncclFloat32 = 7,
  ncclFloat64 = 8,
  ncclBfloat16 = 9,
  ncclFloat8e4m3 = 10,
  ncclFloat8e5m2 = 11,
};

enum ncclScalarResidence_t { ncclScalarDevice = 0, ncclScalarHostImmediate = 1 };

/// All fields of 2.30.7; an older library knows a prefix of them.
struct ncclConfig_t {
  size_t size;
  unsigned int magic;
  unsigned int version;
  int blocking;
  int cgaClusterSize;
  int minCTAs;
  int maxCTAs;
  const char* netName;
  int splitShare;
  int trafficClass;
  const char* commName;
  int collnetEnable;
  int CTAPolicy;
  int shrinkShare;
  int nvlsCTAs;
  int nChannelsPerNetPeer;
  int nvlinkCentricSched;
  int graphUsageMode;
  int numRmaCtx;
  int maxP2pPeers;
  int graphStreamOrdering;
};

struct ncclSimInfo_t {
  size_t size;
  unsigned int magic;
  unsigned int version;
  float estimatedTime;
};

enum ncclCommMemStat_t {
  ncclStatGpuMemSuspend = 0,
  ncclStatGpuMemSuspended = 1,
  ncclStatGpuMemPersist = 2,
  ncclStatGpuMemTotal = 3,
};

constexpr int NCCL_CONFIG_UNDEF_INT = INT_MIN;
constexpr int NCCL_SPLIT_NOCOLOR = -1;
constexpr unsigned NCCL_API_MAGIC = 0xcafebeef;
constexpr unsigned NCCL_SIM_INFO_MAGIC = 0x74685283;
constexpr int NCCL_SHRINK_ABORT = 1;

NCCL_EMULATOR_API ncclResult_t ncclGetVersion(int* version);
NCCL_EMULATOR_API ncclResult_t ncclGetUniqueId(ncclUniqueId* id);
NCCL_EMULATOR_API const char* ncclGetErrorString(ncclResult_t result);
NCCL_EMULATOR_API const char* ncclGetLastError(ncclComm_t comm);
/// "NCCL emulator 2.30.7 (not NVIDIA's library)".
NCCL_EMULATOR_API const char* ncclemu_name(void);
/// A field of the last configuration that this process has given a communicator, such as "minCTAs";
/// NCCL_CONFIG_UNDEF_INT if it was not set.
NCCL_EMULATOR_API int ncclemu_last_config(const char* field);

NCCL_EMULATOR_API ncclResult_t ncclCommInitRank(ncclComm_t* comm, int nranks, ncclUniqueId id, int rank);
NCCL_EMULATOR_API ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int nranks, ncclUniqueId id, int rank,
                                                      ncclConfig_t* config);
NCCL_EMULATOR_API ncclResult_t ncclCommInitRankScalable(ncclComm_t* comm, int nranks, int rank, int ids,
                                                        ncclUniqueId* id, ncclConfig_t* config);
NCCL_EMULATOR_API ncclResult_t ncclCommInitAll(ncclComm_t* comms, int devices, const int* list);
NCCL_EMULATOR_API ncclResult_t ncclCommFinalize(ncclComm_t comm);
NCCL_EMULATOR_API ncclResult_t ncclCommDestroy(ncclComm_t comm);
NCCL_EMULATOR_API ncclResult_t ncclCommAbort(ncclComm_t comm);
NCCL_EMULATOR_API ncclResult_t ncclCommRevoke(ncclComm_t comm, int flags);
NCCL_EMULATOR_API ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* newcomm,
                                             ncclConfig_t* config);
NCCL_EMULATOR_API ncclResult_t ncclCommShrink(ncclComm_t comm, int* excluded, int count, ncclComm_t* newcomm,
                                              ncclConfig_t* config, int flags);
NCCL_EMULATOR_API ncclResult_t ncclCommGetUniqueId(ncclComm_t comm, ncclUniqueId* id);
NCCL_EMULATOR_API ncclResult_t ncclCommGrow(ncclComm_t comm, int nranks, const ncclUniqueId* id, int rank,
                                            ncclComm_t* newcomm, ncclConfig_t* config);
NCCL_EMULATOR_API ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error);
NCCL_EMULATOR_API ncclResult_t ncclCommCount(ncclComm_t comm, int* count);
NCCL_EMULATOR_API ncclResult_t ncclCommCuDevice(ncclComm_t comm, int* device);
NCCL_EMULATOR_API ncclResult_t ncclCommUserRank(ncclComm_t comm, int* rank);
NCCL_EMULATOR_API ncclResult_t ncclCommSuspend(ncclComm_t comm, int flags);
NCCL_EMULATOR_API ncclResult_t ncclCommResume(ncclComm_t comm);
NCCL_EMULATOR_API ncclResult_t ncclCommMemStats(ncclComm_t comm, ncclCommMemStat_t stat, uint64_t* value);

NCCL_EMULATOR_API ncclResult_t ncclMemAlloc(void** pointer, size_t bytes);
NCCL_EMULATOR_API ncclResult_t ncclMemFree(void* pointer);
NCCL_EMULATOR_API ncclResult_t ncclCommRegister(ncclComm_t comm, void* buffer, size_t bytes, void** handle);
NCCL_EMULATOR_API ncclResult_t ncclCommDeregister(ncclComm_t comm, void* handle);
NCCL_EMULATOR_API ncclResult_t ncclCommWindowRegister(ncclComm_t comm, void* buffer, size_t bytes, ncclWindow_t* window,
                                                      int flags);
NCCL_EMULATOR_API ncclResult_t ncclCommWindowDeregister(ncclComm_t comm, ncclWindow_t window);
NCCL_EMULATOR_API ncclResult_t ncclWinGetUserPtr(ncclComm_t comm, ncclWindow_t window, void** pointer);

NCCL_EMULATOR_API ncclResult_t ncclRedOpCreatePreMulSum(ncclRedOp_t* op, void* scalar, ncclDataType_t dtype,
                                                        ncclScalarResidence_t residence, ncclComm_t comm);
NCCL_EMULATOR_API ncclResult_t ncclRedOpDestroy(ncclRedOp_t op, ncclComm_t comm);

NCCL_EMULATOR_API ncclResult_t ncclAllReduce(const void* send, void* recv, size_t count, ncclDataType_t dtype,
                                             ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream);
NCCL_EMULATOR_API ncclResult_t ncclReduce(const void* send, void* recv, size_t count, ncclDataType_t dtype,
                                          ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream);
NCCL_EMULATOR_API ncclResult_t ncclBroadcast(const void* send, void* recv, size_t count, ncclDataType_t dtype, int root,
                                             ncclComm_t comm, cudaStream_t stream);
NCCL_EMULATOR_API ncclResult_t ncclBcast(void* buffer, size_t count, ncclDataType_t dtype, int root, ncclComm_t comm,
                                         cudaStream_t stream);
NCCL_EMULATOR_API ncclResult_t ncclAllGather(const void* send, void* recv, size_t count, ncclDataType_t dtype,
                                             ncclComm_t comm, cudaStream_t stream);
NCCL_EMULATOR_API ncclResult_t ncclReduceScatter(const void* send, void* recv, size_t count, ncclDataType_t dtype,
                                                 ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream);
NCCL_EMULATOR_API ncclResult_t ncclAlltoAll(const void* send, void* recv, size_t count, ncclDataType_t dtype,
                                            ncclComm_t comm, cudaStream_t stream);
NCCL_EMULATOR_API ncclResult_t ncclGather(const void* send, void* recv, size_t count, ncclDataType_t dtype, int root,
                                          ncclComm_t comm, cudaStream_t stream);
NCCL_EMULATOR_API ncclResult_t ncclScatter(const void* send, void* recv, size_t count, ncclDataType_t dtype, int root,
                                           ncclComm_t comm, cudaStream_t stream);
NCCL_EMULATOR_API ncclResult_t ncclSend(const void* send, size_t count, ncclDataType_t dtype, int peer, ncclComm_t comm,
                                        cudaStream_t stream);
NCCL_EMULATOR_API ncclResult_t ncclRecv(void* recv, size_t count, ncclDataType_t dtype, int peer, ncclComm_t comm,
                                        cudaStream_t stream);

NCCL_EMULATOR_API ncclResult_t ncclGroupStart(void);
NCCL_EMULATOR_API ncclResult_t ncclGroupEnd(void);
NCCL_EMULATOR_API ncclResult_t ncclGroupSimulateEnd(ncclSimInfo_t* info);
