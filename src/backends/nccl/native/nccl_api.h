// The part of NCCL's API that the shim calls: so it builds without NCCL's header, and runs with any version since 2.18.
#pragma once

#include <climits>
#include <cstddef>
#include <cstdint>

#include "cuda_api.h"

namespace c10d::nccl_shim {

/// ncclResult_t.
enum class NcclResult : int {
  success = 0,
  unhandled_cuda_error = 1,
  system_error = 2,
  internal_error = 3,
  invalid_argument = 4,
  invalid_usage = 5,
  remote_error = 6,
  in_progress = 7,
  timeout = 8,
};

struct NcclCommOpaque;
struct NcclWindowOpaque;
using NcclComm = NcclCommOpaque*;
using NcclWindow = NcclWindowOpaque*;

/// ncclUniqueId.
struct NcclUniqueId {
  char bytes[128];
};

/// ncclDataType_t.
enum class NcclType : int {
  int8 = 0,
  uint8 = 1,
  int32 = 2,
  uint32 = 3,
  int64 = 4,
  uint64 = 5,
  float16 = 6,
  float32 = 7,
  float64 = 8,
  bfloat16 = 9,
  float8_e4m3 = 10,
  float8_e5m2 = 11,
};

/// ncclRedOp_t: numbers from 5 are ops that the program has made.
using NcclReduceOp = int;
constexpr NcclReduceOp kNcclSum = 0;
constexpr NcclReduceOp kNcclProd = 1;
constexpr NcclReduceOp kNcclMax = 2;
constexpr NcclReduceOp kNcclMin = 3;
constexpr NcclReduceOp kNcclAvg = 4;

/// ncclScalarHostImmediate.
constexpr int kNcclScalarOnHost = 1;
constexpr int kNcclSplitNoColor = -1;
constexpr unsigned kNcclMagic = 0xcafebeef;
constexpr int kNcclUndefined = INT_MIN;
constexpr int kNcclWindowDefault = 0;

/// NCCL_VERSION_CODE.
constexpr int nccl_version(int major, int minor, int patch) { return major * 10000 + minor * 100 + patch; }
constexpr int kOldestNccl = nccl_version(2, 18, 0);
/// The last version whose ncclConfig_t is known here.
constexpr int kNewestConfig = nccl_version(2, 30, 7);

/// ncclConfig_t of the newest version; that of each older one is a prefix of it.
struct NcclConfig {
  size_t size;
  unsigned magic;
  unsigned version;
  int blocking;
  int cga_cluster_size;
  int min_ctas;
  int max_ctas;
  const char* net_name;
  int split_share;
  int traffic_class;
  const char* comm_name;
  int collnet_enable;
  int cta_policy;
  int shrink_share;
  int nvls_ctas;
  int n_channels_per_net_peer;
  int nvlink_centric_sched;
  int graph_usage_mode;
  int num_rma_ctx;
  int max_p2p_peers;
  int graph_stream_ordering;
};
static_assert(offsetof(NcclConfig, net_name) == 32 && offsetof(NcclConfig, comm_name) == 48, "layout");

/// Its functions; those after `recv` may be absent, see Library.
struct NcclApi {
  NcclResult (*get_version)(int* version);
  NcclResult (*get_unique_id)(NcclUniqueId* id);
  NcclResult (*comm_init_rank_config)(NcclComm* comm, int ranks, NcclUniqueId id, int rank, NcclConfig* config);
  NcclResult (*comm_finalize)(NcclComm comm);
  NcclResult (*comm_destroy)(NcclComm comm);
  NcclResult (*comm_abort)(NcclComm comm);
  NcclResult (*comm_split)(NcclComm comm, int color, int key, NcclComm* made, NcclConfig* config);
  const char* (*get_error_string)(NcclResult result);
  const char* (*get_last_error)(NcclComm comm);
  NcclResult (*comm_get_async_error)(NcclComm comm, NcclResult* error);
  NcclResult (*red_op_create_pre_mul_sum)(NcclReduceOp* op, void* scalar, NcclType type, int residence, NcclComm comm);
  NcclResult (*red_op_destroy)(NcclReduceOp op, NcclComm comm);
  NcclResult (*group_start)();
  NcclResult (*group_end)();
  NcclResult (*reduce)(const void* from, void* to, size_t count, NcclType type, NcclReduceOp op, int root,
                       NcclComm comm, CuStream stream);
  NcclResult (*broadcast)(const void* from, void* to, size_t count, NcclType type, int root, NcclComm comm,
                          CuStream stream);
  NcclResult (*all_reduce)(const void* from, void* to, size_t count, NcclType type, NcclReduceOp op, NcclComm comm,
                           CuStream stream);
  NcclResult (*reduce_scatter)(const void* from, void* to, size_t count, NcclType type, NcclReduceOp op, NcclComm comm,
                               CuStream stream);
  NcclResult (*all_gather)(const void* from, void* to, size_t count, NcclType type, NcclComm comm, CuStream stream);
  NcclResult (*send)(const void* from, size_t count, NcclType type, int peer, NcclComm comm, CuStream stream);
  NcclResult (*recv)(void* to, size_t count, NcclType type, int peer, NcclComm comm, CuStream stream);

  // Since 2.19.
  NcclResult (*comm_register)(NcclComm comm, void* address, size_t bytes, void** handle);
  NcclResult (*comm_deregister)(NcclComm comm, void* handle);
  // Since 2.27.
  NcclResult (*comm_window_register)(NcclComm comm, void* address, size_t bytes, NcclWindow* window, int flags);
  NcclResult (*comm_window_deregister)(NcclComm comm, NcclWindow window);
};

}  // namespace c10d::nccl_shim
