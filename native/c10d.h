/*
 * The shim ABI of bun-c10d: the C symbols by which TypeScript drives a native collectives library.
 *
 * A shim is a shared library that exports every function below for one library (Gloo, MPI, …). Most shims are written
 * against the C++ engine in native/engine, which implements this header; anything that exports the same symbols will do.
 *
 * Rules
 * - A c10d_group is one communicator on one device. All calls on a group but c10d_abort come from one thread at a time.
 * - Nothing throws, aborts or prints. Negative results are a c10d_status; text comes from c10d_error / c10d_last_error.
 * - Collectives start in the order of their submission; point-to-point ops start at submit, not behind them.
 * - Buffers stay borrowed until the op's C10D_EVENT_COMPLETE event or c10d_wait result without C10D_EVENT_PINNED, else
 *   until C10D_EVENT_RELEASED.
 * - Where the thread that uses a group may end before the process does, its memory with it, a shim needs worker_end.h.
 * - The native side never talks to a store: it raises C10D_EVENT_STORE_SET and _GET, the host answers.
 *
 * This file is the one source of the numbers: scripts/generate-abi.ts makes src/native/abi.generated.ts from it.
 */
#ifndef C10D_H
#define C10D_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define C10D_ABI_VERSION 1

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
  C10D_ERR_WAIT_TIMEOUT = -1, /* c10d_wait only: the op goes on */
  C10D_ERR_OP_TIMEOUT = -2,   /* the op's own limit ran out; the group has failed */
  C10D_ERR_NETWORK = -3,      /* a connection or a peer is gone; the group has failed */
  C10D_ERR_ABORTED = -4,      /* c10d_abort; the group has failed */
  C10D_ERR_INVALID = -5,      /* bad argument; nothing was sent */
  C10D_ERR_UNSUPPORTED = -6,  /* op, dtype or reduce op not implemented; nothing was sent */
  C10D_ERR_GROUP_FAILED = -7, /* the group failed before; c10d_group_error tells why */
  C10D_ERR_CLOSED = -8,       /* the group was closed */
  C10D_ERR_BACKEND = -9,      /* the native library reports an error; the group has failed */
  C10D_ERR_UNKNOWN_OP = -10,  /* no such op, or its result was taken before */
  C10D_ERR_DESYNC = -11       /* the ranks made different calls, the text names both; the group has failed */
} c10d_status;

typedef enum c10d_state { C10D_CONNECTING = 0, C10D_OPEN = 1, C10D_FAILED = 2, C10D_CLOSED = 3 } c10d_state;

typedef enum c10d_event_kind {
  C10D_EVENT_READY = 1,     /* creation has ended; status tells how */
  C10D_EVENT_COMPLETE = 2,  /* the op with this id has ended */
  C10D_EVENT_RELEASED = 3,  /* an op that completed with C10D_EVENT_PINNED no longer touches its buffers */
  C10D_EVENT_STORE_SET = 4, /* please store a value: c10d_exchange_read, then c10d_exchange_reply */
  C10D_EVENT_STORE_GET = 5, /* please fetch a value, waiting for it */
  C10D_EVENT_LOG = 6,       /* a remark for the log: c10d_exchange_read gives it as the key */
  C10D_EVENT_LOST = 7       /* the group has failed; there may be no op in flight that reports it */
} c10d_event_kind;

/* Bits of c10d_op.flags. */
enum {
  C10D_FLAG_MONITORED = 1,     /* barrier: rank 0 finds out which ranks are missing */
  C10D_FLAG_WAIT_ALL_RANKS = 2 /* monitored barrier: names all of them rather than the first */
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
} c10d_event;

typedef struct c10d_buffer {
  uint64_t address;
  uint64_t bytes;
} c10d_buffer;

typedef struct c10d_op {
  uint32_t size;          /* sizeof(c10d_op) as the caller knows it */
  uint32_t opcode;        /* c10d_opcode */
  uint32_t dtype;         /* c10d_dtype */
  uint32_t reduce_op;     /* c10d_reduce_op */
  int32_t peer;           /* root, source or destination: rank in the group; -1 any or none */
  uint32_t tag;           /* send and recv */
  uint32_t flags;         /* C10D_FLAG_... */
  int32_t device;         /* ordinal; 0 for the CPU */
  uint64_t stream;        /* device stream, 0 for none */
  double timeout_ms;      /* the op's limit from now on; infinity for none */
  double premul_factor;   /* C10D_PREMUL_SUM */
  uint64_t inputs;        /* address of c10d_buffer[input_count] */
  uint64_t outputs;       /* address of c10d_buffer[output_count]; in-place ops have outputs only */
  uint64_t input_splits;  /* address of uint64_t[input_split_count], in elements */
  uint64_t output_splits; /* address of uint64_t[output_split_count], in elements */
  uint32_t input_count;
  uint32_t output_count;
  uint32_t input_split_count;
  uint32_t output_split_count;
} c10d_op;

typedef struct c10d_config {
  uint32_t size; /* sizeof(c10d_config) as the caller knows it */
  int32_t rank;
  int32_t world_size;
  int32_t device;
  double timeout_ms; /* for connecting; infinity for none */
  uint64_t options;  /* address of "key=value" strings, each ended by a NUL; the host adds thread=worker in a Worker */
  uint64_t options_bytes;
} c10d_config;

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

/* Name and version of the native library, e.g. "gloo 2022-05-18". */
C10D_EXPORT const char* c10d_library_version(void);

/* Text of the last failure of c10d_create or c10d_submit on this thread. */
C10D_EXPORT const char* c10d_last_error(void);

/* Starts to make a group; returns at once, connecting goes on in native threads until C10D_EVENT_READY. NULL on error. */
C10D_EXPORT c10d_group* c10d_create(const c10d_config* config);

/* Socket that becomes readable when there are events to drain. It belongs to the caller, who closes it. */
C10D_EXPORT int32_t c10d_wake_fd(c10d_group* group);

/* Copies up to `max` events to `events` and returns their number; fewer than `max` means that none are left. */
C10D_EXPORT uint32_t c10d_drain(c10d_group* group, c10d_event* events, uint32_t max);

/* Copies key and value of a store event. 0, or C10D_ERR_INVALID if a buffer is too small or the id unknown. */
C10D_EXPORT int32_t c10d_exchange_read(c10d_group* group, uint64_t id, void* key, uint32_t key_capacity, void* value,
                                       uint32_t value_capacity);

/* Answers a store event: the value of a GET, or with a negative status the text of what went wrong. Copies `data`. */
C10D_EXPORT int32_t c10d_exchange_reply(c10d_group* group, uint64_t id, int32_t status, const void* data,
                                        uint32_t bytes);

/*
 * Queues `count` ops, all or none, and fixes their order. Returns the id of the first (ids are consecutive, from 1) or a
 * negative c10d_status. Nothing needs to start before c10d_kick or c10d_wait.
 */
C10D_EXPORT int64_t c10d_submit(c10d_group* group, const c10d_op* ops, uint32_t count);

/* c10d_submit of one op whose first input and output are at these addresses (NULL keeps what the op's table says). */
C10D_EXPORT int64_t c10d_submit_one(c10d_group* group, const c10d_op* op, const void* input, void* output);

/*
 * Notes that the host has refused a collective. It counts among the group's collectives as one that c10d_submit refuses does:
 * ranks that have all refused the call stay in step, and one that did so alone is found by the comparison of the next one.
 */
C10D_EXPORT void c10d_skip_turn(c10d_group* group);

/* Lets native threads start what is queued. */
C10D_EXPORT void c10d_kick(c10d_group* group);

/*
 * Waits for an op, driving it on this thread where that can return in time, and takes its result: C10D_OK and *result,
 * the op's error, or C10D_ERR_WAIT_TIMEOUT while it goes on.
 */
C10D_EXPORT int32_t c10d_wait(c10d_group* group, uint64_t id, double timeout_ms, c10d_event* result);

/* Takes the error text of a failed op; returns its length (not more than `capacity` bytes are written, no NUL). */
C10D_EXPORT uint32_t c10d_error(c10d_group* group, uint64_t id, char* text, uint32_t capacity);

/* Why the group has failed; returns the length of the text, as c10d_error. */
C10D_EXPORT uint32_t c10d_group_error(c10d_group* group, char* text, uint32_t capacity);

/* c10d_state of the group. */
C10D_EXPORT int32_t c10d_group_state(c10d_group* group);

/* Fails the group from any thread: wakes every waiter, rejects what is queued, cancels creation. */
C10D_EXPORT void c10d_abort(c10d_group* group, int32_t status, const char* reason);

C10D_EXPORT void c10d_group_stats(c10d_group* group, c10d_stats* stats);

/*
 * Ends the group. Ops in flight are aborted. Waits up to `timeout_ms` for native threads; returns the number of ops
 * whose buffers native code may still touch (then memory of the group is kept for the life of the process), else 0 and
 * `group` is freed. After a positive result it may be called again.
 */
C10D_EXPORT int32_t c10d_close(c10d_group* group, double timeout_ms);

#ifdef __cplusplus
}
static_assert(sizeof(c10d_event) == 32, "layout");
static_assert(sizeof(c10d_op) == 104, "layout");
static_assert(sizeof(c10d_config) == 40, "layout");
#else
_Static_assert(sizeof(c10d_event) == 32, "layout");
_Static_assert(sizeof(c10d_op) == 104, "layout");
_Static_assert(sizeof(c10d_config) == 40, "layout");
#endif

#endif
