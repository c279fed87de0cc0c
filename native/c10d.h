/*
 * The shim ABI of bun-c10d: the C symbols by which TypeScript drives a native collectives library.
 *
 * A shim is a shared library that exports every function below for one library (Gloo, MPI, …). Most shims are written
 * against the C++ engine in native/engine, which implements this header; any library with the same symbols works.
 *
 * Rules
 * - A c10d_group is one communicator on one device. All calls on a group but c10d_abort come from one thread at a time.
 * - Nothing throws, aborts or prints. Negative results are a c10d_status; text comes from c10d_error / c10d_last_error.
 * - Collectives start in the order of their submission; point-to-point ops start at submit, not behind them.
 * - Buffers stay borrowed until the op's C10D_EVENT_COMPLETE event or c10d_wait result without C10D_EVENT_PINNED, else
 *   until C10D_EVENT_RELEASED.
 * - Where the thread that uses a group may end before the process does, its memory with it, a shim needs worker_end.h.
 * - The native side does not access a store itself: it raises C10D_EVENT_STORE_SET and _GET, and the host answers.
 *
 * How structs grow
 * - New fields are only added at the end; 0 means the behaviour from before the field existed.
 * - A struct that the caller fills in begins with its size as the caller knows it, a multiple of 8. The callee reads
 *   missing fields as 0, and refuses (C10D_ERR_INVALID) a struct with non-zero bytes beyond the fields that it knows.
 *   The stride of an array is the size in its first element; all elements have the same size.
 * - For a struct that the callee fills in, the caller passes the size along with the address. The callee writes that
 *   many bytes, 0 beyond the fields that it knows.
 * - So a host and a shim with the same C10D_ABI_VERSION work together, whichever is newer. The version changes when the
 *   set of functions does.
 *
 * This file is the one source of the numbers: scripts/generate-abi.ts makes src/native/abi.generated.ts from it.
 */
#ifndef C10D_H
#define C10D_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define C10D_ABI_VERSION 2

#define C10D_EXPORT __attribute__((visibility("default")))

/* c10d's OpType. */
typedef enum c10d_opcode {
  C10D_OP_BROADCAST = 0,
  C10D_OP_ALLREDUCE = 1,
  C10D_OP_ALLREDUCE_COALESCED = 2,
  C10D_OP_REDUCE = 3,
  C10D_OP_ALLGATHER = 4,
  C10D_OP_ALLGATHER_BASE = 5,
  C10D_OP_ALLGATHER_COALESCED = 6,
  C10D_OP_GATHER = 7,
  C10D_OP_SCATTER = 8,
  C10D_OP_REDUCE_SCATTER = 9,
  C10D_OP_ALLTOALL_BASE = 10,
  C10D_OP_ALLTOALL = 11,
  C10D_OP_SEND = 12,
  C10D_OP_RECV = 13,
  C10D_OP_RECV_ANY_SOURCE = 14,
  C10D_OP_BARRIER = 15,
  C10D_OP_REDUCE_SCATTER_BASE = 16,
  C10D_OP_COALESCED = 17,
  C10D_OP_ALLREDUCE_SPARSE = 18,
  C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED = 19
} c10d_opcode;

/* Calls in the order of a group's ops that are not ops of c10d. Only for shims whose c10d_capabilities list them. */
typedef enum c10d_service {
  C10D_SERVICE_REGISTER_MEMORY = 32,   /* outputs[0] will be used by many ops; this rank only */
  C10D_SERVICE_DEREGISTER_MEMORY = 33, /* outputs[0] was registered before */
  C10D_SERVICE_OPEN_WINDOW = 34,       /* collective: peers may access outputs[0], see c10d_window_address */
  C10D_SERVICE_CLOSE_WINDOW = 35       /* collective: outputs[0] is an open window */
} c10d_service;

/* c10's DeviceType. */
typedef enum c10d_device_type { C10D_DEVICE_CPU = 0, C10D_DEVICE_CUDA = 1 } c10d_device_type;

/* c10's ScalarType. */
typedef enum c10d_dtype {
  C10D_UINT8 = 0,
  C10D_INT8 = 1,
  C10D_INT16 = 2,
  C10D_INT32 = 3,
  C10D_INT64 = 4,
  C10D_FLOAT16 = 5,
  C10D_FLOAT32 = 6,
  C10D_FLOAT64 = 7,
  C10D_COMPLEX64 = 9,
  C10D_COMPLEX128 = 10,
  C10D_BOOL = 11,
  C10D_BFLOAT16 = 15,
  C10D_FLOAT8_E5M2 = 23,
  C10D_FLOAT8_E4M3FN = 24,
  C10D_UINT16 = 27,
  C10D_UINT32 = 28,
  C10D_UINT64 = 29
} c10d_dtype;

/* c10d's RedOpType. */
typedef enum c10d_reduce_op {
  C10D_SUM = 0,
  C10D_AVG = 1,
  C10D_PRODUCT = 2,
  C10D_MIN = 3,
  C10D_MAX = 4,
  C10D_BAND = 5,
  C10D_BOR = 6,
  C10D_BXOR = 7,
  C10D_PREMUL_SUM = 8
} c10d_reduce_op;

typedef enum c10d_status {
  C10D_OK = 0,
  C10D_ERR_WAIT_TIMEOUT = -1, /* c10d_wait and c10d_synchronize only: the op continues */
  C10D_ERR_OP_TIMEOUT = -2,   /* the op's own time limit expired; the group has failed */
  C10D_ERR_NETWORK = -3,      /* a connection or a peer is lost; the group has failed */
  C10D_ERR_ABORTED = -4,      /* c10d_abort; the group has failed */
  C10D_ERR_INVALID = -5,      /* bad argument; nothing was sent */
  C10D_ERR_UNSUPPORTED = -6,  /* op, dtype or reduce op not implemented; nothing was sent */
  C10D_ERR_GROUP_FAILED = -7, /* the group failed before; c10d_take_failure of op 0 says why */
  C10D_ERR_CLOSED = -8,       /* the group was closed */
  C10D_ERR_BACKEND = -9,      /* the native library reports an error; the group has failed */
  C10D_ERR_UNKNOWN_OP = -10,  /* no such op, or its result was taken before */
  C10D_ERR_DESYNC = -11,      /* the calls of the ranks do not match; the group has failed */
  C10D_ERR_UNAVAILABLE = -12  /* c10d_probe only: the native library, or its device, cannot be used here */
} c10d_status;

/* How the calls of two ranks differ, for C10D_ERR_DESYNC. */
typedef enum c10d_mismatch {
  C10D_MISMATCH_NONE = 0,
  C10D_MISMATCH_CALL = 1,    /* different op, dtype, size, reduce op, root or place in the order */
  C10D_MISMATCH_SPLITS = 2,  /* what one sends to the other in an all-to-all */
  C10D_MISMATCH_MESSAGE = 3, /* what was sent, and what the receiver expects */
  C10D_MISMATCH_REPORTED = 4 /* found by another rank; the text is its report */
} c10d_mismatch;

typedef enum c10d_state { C10D_CONNECTING = 0, C10D_OPEN = 1, C10D_FAILED = 2, C10D_CLOSED = 3 } c10d_state;

typedef enum c10d_event_kind {
  C10D_EVENT_READY = 1,     /* creation has ended; status says how */
  C10D_EVENT_COMPLETE = 2,  /* the op with this id has ended */
  C10D_EVENT_RELEASED = 3,  /* an op that completed with C10D_EVENT_PINNED no longer touches its buffers */
  C10D_EVENT_STORE_SET = 4, /* please store a value: c10d_exchange_read, then c10d_exchange_reply */
  C10D_EVENT_STORE_GET = 5, /* please fetch a value, waiting for it */
  C10D_EVENT_LOG = 6,       /* a log message, which c10d_exchange_read returns as the key */
  C10D_EVENT_LOST = 7       /* the group has failed; there may be no op in flight that reports it */
} c10d_event_kind;

/* Bits of c10d_op.flags. */
enum {
  C10D_FLAG_MONITORED = 1,      /* barrier: rank 0 finds out which ranks are missing */
  C10D_FLAG_WAIT_ALL_RANKS = 2, /* monitored barrier: names all of them rather than the first */
  C10D_FLAG_STREAM = 4,         /* `stream` is set: 0 is a stream too, CUDA's default */
  C10D_FLAG_TIMES = 8 /* set c10d_event's times; optional, since reading the clock doubles the cost of a small op */
};

/* Bits of c10d_capabilities.flags. */
enum {
  C10D_CAN_TAKE_BATCHES = 1,        /* the ops of one c10d_submit go to the library as one batch */
  C10D_CAN_SYNCHRONIZE = 2,         /* c10d_synchronize: there are streams */
  C10D_CAN_SPLIT = 4,               /* c10d_split */
  C10D_CAN_OVERTAKE_COLLECTIVES = 8 /* send and recv start at submit; else in their order among the collectives */
};

/* Bits of c10d_event.flags. */
enum { C10D_EVENT_PINNED = 1 };

typedef struct c10d_event {
  uint32_t kind;  /* c10d_event_kind */
  int32_t status; /* c10d_status */
  uint64_t id;    /* of the op or the exchange */
  int32_t peer;   /* recv: rank it came from; failed op: rank that caused it; else -1 */
  uint32_t flags;
  uint32_t key_bytes; /* store events: sizes for c10d_exchange_read */
  uint32_t value_bytes;
  uint64_t started_ns;  /* with C10D_FLAG_TIMES: when the library got the op, by c10d_clock_ns; 0 if it never did */
  uint64_t finished_ns; /* and when the library finished it */
} c10d_event;

typedef struct c10d_buffer {
  uint64_t address;
  uint64_t bytes;
} c10d_buffer;

typedef struct c10d_op {
  uint32_t size;
  uint32_t opcode;        /* c10d_opcode or c10d_service */
  uint32_t dtype;         /* c10d_dtype */
  uint32_t reduce_op;     /* c10d_reduce_op */
  int32_t peer;           /* root, source or destination: rank in the group; -1 any or none */
  uint32_t tag;           /* send and recv */
  uint32_t flags;         /* C10D_FLAG_... */
  uint32_t device_type;   /* c10d_device_type; that of the group */
  uint64_t stream;        /* with C10D_FLAG_STREAM: the op starts after what is in it now */
  double timeout_ms;      /* the op's limit from now on; 0 and infinity for none */
  double premul_factor;   /* C10D_PREMUL_SUM */
  uint64_t inputs;        /* address of c10d_buffer[input_count] */
  uint64_t outputs;       /* address of c10d_buffer[output_count]; in-place ops have outputs only */
  uint64_t input_splits;  /* address of uint64_t[input_split_count], in elements */
  uint64_t output_splits; /* address of uint64_t[output_split_count], in elements */
  uint32_t input_count;
  uint32_t output_count;
  uint32_t input_split_count;
  uint32_t output_split_count;
  int32_t device_index; /* ordinal; 0 for the CPU */
  uint32_t reserved;    /* 0 */
} c10d_op;

typedef struct c10d_config {
  uint32_t size;
  int32_t rank;
  int32_t world_size;
  uint32_t device_type; /* c10d_device_type */
  int32_t device_index; /* ordinal; 0 for the CPU */
  int32_t color;        /* c10d_split: ranks with the same one are in one group */
  double timeout_ms;    /* for connecting; 0 and infinity for none */
  uint64_t options; /* address of "key=value" strings, each ended by a NUL; the host adds thread=worker in a Worker */
  uint64_t options_bytes;
} c10d_config;

/* Why something failed. The caller sets the size, the tables and their capacities. */
typedef struct c10d_failure {
  uint32_t size;
  int32_t status;       /* c10d_status; C10D_OK if nothing has failed */
  uint32_t mismatch;    /* c10d_mismatch */
  int32_t system_error; /* errno of a failed system call, such as EMFILE; else 0 */
  int32_t peer;         /* rank that this one waited for or lost, or -1 */
  uint32_t rank_count;  /* how many there are, even if the table holds only the first */
  uint32_t rank_capacity;
  uint32_t text_capacity;
  uint32_t text_bytes;  /* written to text */
  int32_t device_error; /* what the library of the device returned, such as a CUresult; else 0 */
  uint64_t ranks;       /* address of int32_t[rank_capacity]: the two ranks of a mismatch, else those that caused it */
  uint64_t text;        /* address of char[text_capacity]: for people; UTF-8, no NUL */
} c10d_failure;

/* What a group can do. The host knows the most that the backend can do; a field that is 0 here does not restrict it. */
typedef struct c10d_capabilities {
  uint64_t ops;         /* bit n: c10d_opcode n. 0: all that the host knows of */
  uint64_t services;    /* bit n: c10d_service n. 0: none */
  uint64_t dtypes;      /* bit n: c10d_dtype n. 0: all that the host knows of */
  uint64_t reduce_ops;  /* bit n: c10d_reduce_op n. 0: all that the host knows of */
  uint32_t flags;       /* C10D_CAN_... */
  uint32_t concurrency; /* collectives that may be in flight at the same time */
} c10d_capabilities;

typedef struct c10d_stats {
  uint64_t submitted;
  uint64_t completed;
  uint64_t failed;
  uint64_t driven_by_wait; /* ops that a thread in c10d_wait ran itself */
  uint64_t pinned;         /* ops that have ended for the host while native code may still touch their buffers */
  uint64_t wakes;          /* wake bytes sent */
} c10d_stats;

typedef struct c10d_group c10d_group;

/* C10D_ABI_VERSION of the header this shim was built with. */
C10D_EXPORT uint32_t c10d_abi_version(void);

/*
 * Whether the native library can be used here, loading it if it is loaded at run time. Copies its name and version,
 * e.g. "gloo 2022-05-18", and returns the length; or C10D_ERR_UNAVAILABLE, c10d_last_failure says why.
 */
C10D_EXPORT int32_t c10d_probe(char* version, uint32_t capacity);

/* Why the last c10d_probe, c10d_create, c10d_split, c10d_submit or c10d_synchronize on this thread failed. */
C10D_EXPORT int32_t c10d_last_failure(c10d_failure* failure);

/* CLOCK_MONOTONIC, in nanoseconds. */
C10D_EXPORT uint64_t c10d_clock_ns(void);

/* Starts to create a group and returns at once; native threads connect it until C10D_EVENT_READY. NULL on error. */
C10D_EXPORT c10d_group* c10d_create(const c10d_config* config);

/*
 * The same for a group of some ranks of an open one, by the library's own split. Collective: all ranks of the parent
 * call it. `config` has the rank among those of the same color; a rank with a negative color takes part, but can only
 * close the group that it gets. Until C10D_EVENT_READY of the new group, the parent must stay open. Ops that are submitted
 * to the parent meanwhile come after the split; if that is given up while ranks may be in it, the parent fails.
 */
C10D_EXPORT c10d_group* c10d_split(c10d_group* parent, const c10d_config* config);

/* What an open group can do. */
C10D_EXPORT void c10d_group_capabilities(c10d_group* group, c10d_capabilities* capabilities, uint32_t size);

/* Socket that becomes readable when there are events to drain. It belongs to the caller, who closes it. */
C10D_EXPORT int32_t c10d_wake_fd(c10d_group* group);

/* Copies up to `max` events of `size` bytes to `events` and returns their number; fewer than `max`: none are left. */
C10D_EXPORT int32_t c10d_drain(c10d_group* group, c10d_event* events, uint32_t size, uint32_t max);

/* Copies key and value of a store event. Returns 0, or C10D_ERR_INVALID if a buffer is too small or the id unknown. */
C10D_EXPORT int32_t c10d_exchange_read(c10d_group* group, uint64_t id, void* key, uint32_t key_capacity, void* value,
                                       uint32_t value_capacity);

/* Answers a store event with the value of a GET, or with a negative status and the text of the error. Copies `data`. */
C10D_EXPORT int32_t c10d_exchange_reply(c10d_group* group, uint64_t id, int32_t status, const void* data,
                                        uint32_t bytes);

/*
 * Queues `count` ops, all or none, and fixes their order. Returns the id of the first (ids are consecutive, from 1) or
 * a negative c10d_status. Nothing needs to start before c10d_kick or c10d_wait.
 */
C10D_EXPORT int64_t c10d_submit(c10d_group* group, const c10d_op* ops, uint32_t count);

/* c10d_submit of one op whose first input and output are at these addresses (NULL keeps the one in the op's table). */
C10D_EXPORT int64_t c10d_submit_one(c10d_group* group, const c10d_op* op, const void* input, void* output);

/*
 * Records that the host refused a collective. The collective keeps its place in the group's order, as does each one in
 * a batch that c10d_submit refuses: ranks that all refused the call stay in step, and a rank that refused it alone is
 * found when the next collective is compared.
 */
C10D_EXPORT void c10d_skip_turn(c10d_group* group);

/* Lets native threads start what is queued. */
C10D_EXPORT void c10d_kick(c10d_group* group);

/*
 * Waits for an op, driving it on this thread where that can return in time, and takes its result: C10D_OK and *result,
 * the op's error, or C10D_ERR_WAIT_TIMEOUT while it continues. `size` is that of *result.
 */
C10D_EXPORT int32_t c10d_wait(c10d_group* group, uint64_t id, double timeout_ms, c10d_event* result, uint32_t size);

/*
 * Makes what is put into a stream of the group's device from now on wait for an op. Blocks only until the op has
 * started; C10D_ERR_WAIT_TIMEOUT if that takes too long, the op's error if it has failed, C10D_ERR_UNSUPPORTED if there
 * are no streams.
 */
C10D_EXPORT int32_t c10d_synchronize(c10d_group* group, uint64_t id, uint64_t stream, double timeout_ms);

/* Whether the library has got an op, rather than the op waiting for its turn: 1 or 0; 1 for one that has ended. */
C10D_EXPORT int32_t c10d_op_started(c10d_group* group, uint64_t id);

/* Takes the failure of an op; copies that of the group if `id` is 0. Returns the status, which is also in *failure. */
C10D_EXPORT int32_t c10d_take_failure(c10d_group* group, uint64_t id, c10d_failure* failure);

/* Address of `rank`'s memory in the window whose part on this rank is at `address`; 0 if this process has no access. */
C10D_EXPORT uint64_t c10d_window_address(c10d_group* group, uint64_t address, int32_t rank);

/* c10d_state of the group. */
C10D_EXPORT int32_t c10d_group_state(c10d_group* group);

/* Fails the group from any thread: wakes every waiter, rejects what is queued, cancels creation. */
C10D_EXPORT void c10d_abort(c10d_group* group, int32_t status, const char* reason);

C10D_EXPORT void c10d_group_stats(c10d_group* group, c10d_stats* stats, uint32_t size);

/*
 * Ends the group. Ops in flight are aborted. Waits up to `timeout_ms` for native threads; returns the number of ops
 * whose buffers native code may still touch (then memory of the group is kept), else 0 and `group` is freed. After a
 * positive result it may be called again.
 */
C10D_EXPORT int32_t c10d_close(c10d_group* group, double timeout_ms);

#ifdef __cplusplus
}
static_assert(sizeof(c10d_event) == 48, "layout");
static_assert(sizeof(c10d_op) == 112, "layout");
static_assert(sizeof(c10d_config) == 48, "layout");
static_assert(sizeof(c10d_failure) == 56, "layout");
static_assert(sizeof(c10d_capabilities) == 40, "layout");
#else
_Static_assert(sizeof(c10d_event) == 48, "layout");
_Static_assert(sizeof(c10d_op) == 112, "layout");
_Static_assert(sizeof(c10d_config) == 48, "layout");
_Static_assert(sizeof(c10d_failure) == 56, "layout");
_Static_assert(sizeof(c10d_capabilities) == 40, "layout");
#endif

#endif
