/*
 * Collectives over memory that the processes of one host share: a native backend that needs nothing but c10d.h.
 *
 * Each rank has a slot in the shared memory. A collective goes in steps of at most CHUNK bytes: every rank writes its
 * part into its slot, counts its step up, waits until all have come to it, and reads what it needs from all the slots.
 * A slot has two halves that take turns: who has come to step n has read everything of step n - 1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "c10d.h"
#include "worker_end.h"

enum { CHUNK = 1 << 16, TICK_MS = 50, TEXT = 384 };

/* LEFT: it may have done its part before. BROKEN: nothing can come of what is under way. */
enum { HERE, LEFT, BROKEN };

/* What a rank calls; all must call the same. */
typedef struct call {
  uint64_t number; /* place among the collectives of the group, from 1; refused ones count too */
  uint32_t opcode, dtype, reduce_op;
  int32_t root; /* -1 for an op that has none */
  uint64_t bytes;
} call;

typedef struct slot {
  _Atomic uint32_t step;  /* the others sleep on it */
  _Atomic uint32_t place; /* HERE, LEFT or BROKEN */
  call calls[2];
  alignas(64) char data[2][CHUNK];
} slot;

typedef struct segment {
  uint64_t magic;
  alignas(64) slot slots[];
} segment;

typedef struct op {
  struct op* next;
  uint64_t id;
  call call;
  double timeout_ms, deadline;
  uint64_t started_ns, finished_ns;
  bool running, done, reported, awaited;
  int32_t status;
  c10d_buffer own; /* what this rank gives */
  uint32_t output_count;
  c10d_buffer outputs[];
} op;

struct c10d_group {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  pthread_t thread;
  int32_t rank, size;
  c10d_state state;
  double timeout_ms, deadline; /* of connecting */
  int wake[2];
  bool woken, stopping, ended;
  /* Why it has failed. */
  int32_t status, peer;
  char cause[TEXT];
  /* Events that are not about ops, and the one question to the store that may be under way. */
  c10d_event notes[4];
  uint32_t note_count;
  char key[TEXT], value[TEXT];
  bool answered;
  int32_t answer_status;
  /* Ops in the order of their submission; failed ones stay until their text was read. */
  op *first, **last;
  uint64_t next_id, collectives;
  c10d_stats stats;
  /* Of the thread alone, once there. */
  int memory;
  segment* shared;
  uint32_t step;
};

static _Thread_local int32_t last_status;
static _Thread_local char last_error[TEXT];

/* ---- time, futex, locks of ranks ------------------------------------------------------------------------------- */

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

uint64_t c10d_clock_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* A limit of the host's, where 0 stands for none. */
static double deadline_of(double limit_ms) { return now_ms() + (limit_ms == 0 ? INFINITY : limit_ms); }

static struct timespec timespec_of(double ms) {
  const double bounded = fmin(fmax(ms, 0), 1e12);
  return (struct timespec){(time_t)(bounded / 1e3), (long)(fmod(bounded, 1e3) * 1e6)};
}

/* Waits for a change until `deadline`; false when that has passed. */
static bool await_change(c10d_group* g, double deadline) {
  const struct timespec until = timespec_of(deadline);
  return pthread_cond_timedwait(&g->changed, &g->lock, &until) == 0;
}

static long futex(_Atomic uint32_t* word, int what, uint32_t value, const struct timespec* limit) {
  return syscall(SYS_futex, word, what, value, limit, NULL, 0);
}

/* A rank locks its byte of the memory; the kernel lets go of it when the process dies, however that comes about. */
static struct flock byte_of(int32_t rank) { return (struct flock){.l_type = F_WRLCK, .l_start = rank, .l_len = 1}; }

static bool has_died(c10d_group* g, int32_t rank) {
  struct flock lock = byte_of(rank);
  return fcntl(g->memory, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
}

/* ---- events; all with the lock held ---------------------------------------------------------------------------- */

static void wake_host(c10d_group* g) {
  if (g->woken) return;
  g->woken = true;
  g->stats.wakes++;
  (void)!send(g->wake[1], "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void note(c10d_group* g, c10d_event event) {
  g->notes[g->note_count++] = event;
  wake_host(g);
}

static void end_op(c10d_group* g, op* o, int32_t status) {
  o->done = true;
  o->status = status;
  o->finished_ns = c10d_clock_ns();
  if (status == C10D_OK)
    g->stats.completed++;
  else
    g->stats.failed++;
  if (!o->awaited) wake_host(g);
  pthread_cond_broadcast(&g->changed);
}

static c10d_event event_of(c10d_group* g, const op* o) {
  const int32_t peer = o->status == C10D_OK ? -1 : g->peer;
  return (c10d_event){.kind = C10D_EVENT_COMPLETE,
                      .status = o->status,
                      .id = o->id,
                      .peer = peer,
                      .started_ns = o->started_ns,
                      .finished_ns = o->finished_ns};
}

static op** find(c10d_group* g, uint64_t id) {
  op** at = &g->first;
  while (*at != NULL && (*at)->id != id) at = &(*at)->next;
  return at;
}

static void drop(c10d_group* g, op** at) {
  op* o = *at;
  if (g->last == &o->next) g->last = at;
  *at = o->next;
  free(o);
}

/* Tells the others that this rank takes no part any more. */
static void leave(c10d_group* g, uint32_t place) {
  if (g->shared == NULL) return;
  uint32_t here = HERE;
  atomic_compare_exchange_strong(&g->shared->slots[g->rank].place, &here, place);
  for (int32_t r = 0; r < g->size; r++) futex(&g->shared->slots[r].step, FUTEX_WAKE, INT32_MAX, NULL);
}

/* The first failure is the group's; ops that have not begun end with it here, the others in the thread. */
__attribute__((format(printf, 4, 5))) static bool fail(c10d_group* g, int32_t status, int32_t peer, const char* text,
                                                       ...) {
  if (g->state == C10D_FAILED || g->state == C10D_CLOSED) return false;
  g->state = C10D_FAILED;
  g->status = status;
  g->peer = peer;
  va_list arguments;
  va_start(arguments, text);
  vsnprintf(g->cause, TEXT, text, arguments);
  va_end(arguments);
  leave(g, BROKEN);
  for (op* o = g->first; o != NULL; o = o->next) {
    if (!o->running && !o->done) end_op(g, o, status);
  }
  pthread_cond_broadcast(&g->changed);
  return false;
}

/* ---- calls ------------------------------------------------------------------------------------------------------ */

static bool reduces(uint32_t opcode) { return opcode == C10D_OP_ALLREDUCE || opcode == C10D_OP_REDUCE; }

static bool is_rooted(uint32_t opcode) {
  return opcode == C10D_OP_REDUCE || opcode == C10D_OP_BROADCAST || opcode == C10D_OP_GATHER;
}

static call call_of(const c10d_op* request, uint64_t bytes) {
  call c = {.opcode = request->opcode, .root = -1};
  if (request->opcode == C10D_OP_BARRIER) return c;
  c.dtype = request->dtype;
  c.bytes = bytes;
  if (reduces(request->opcode)) c.reduce_op = request->reduce_op;
  if (is_rooted(request->opcode)) c.root = request->peer;
  return c;
}

static const struct {
  const char* name;
  unsigned bytes;
} dtypes[] = {[C10D_UINT8] = {"uint8", 1},
              [C10D_INT8] = {"int8", 1},
              [C10D_INT16] = {"int16", 2},
              [C10D_INT32] = {"int32", 4},
              [C10D_INT64] = {"int64", 8},
              [C10D_FLOAT16] = {"float16", 2},
              [C10D_FLOAT32] = {"float32", 4},
              [C10D_FLOAT64] = {"float64", 8},
              [C10D_COMPLEX64] = {"complex64", 8},
              [C10D_COMPLEX128] = {"complex128", 16},
              [C10D_BOOL] = {"bool", 1},
              [C10D_BFLOAT16] = {"bfloat16", 2},
              [C10D_FLOAT8_E5M2] = {"float8_e5m2", 1},
              [C10D_FLOAT8_E4M3FN] = {"float8_e4m3fn", 1},
              [C10D_UINT16] = {"uint16", 2},
              [C10D_UINT32] = {"uint32", 4},
              [C10D_UINT64] = {"uint64", 8}};

static bool is_dtype(uint32_t code) { return code < sizeof dtypes / sizeof *dtypes && dtypes[code].bytes > 0; }

/* E.g. "allReduce(float32[4], SUM)". */
static void describe(const call* c, char* text, size_t capacity) {
  static const char* const ops[] = {[C10D_OP_BROADCAST] = "broadcast",
                                    [C10D_OP_ALLREDUCE] = "allReduce",
                                    [C10D_OP_REDUCE] = "reduce",
                                    [C10D_OP_ALLGATHER] = "allGather",
                                    [C10D_OP_ALLGATHER_BASE] = "allGatherIntoTensor",
                                    [C10D_OP_GATHER] = "gather",
                                    [C10D_OP_BARRIER] = "barrier"};
  static const char* const reduce_ops[] = {
      [C10D_SUM] = "SUM", [C10D_PRODUCT] = "PRODUCT", [C10D_MIN] = "MIN", [C10D_MAX] = "MAX"};
  char tensor[40] = "", reduction[16] = "", root[20] = "";
  if (c->opcode != C10D_OP_BARRIER) {
    snprintf(tensor, sizeof tensor, "%s[%lu]", dtypes[c->dtype].name, c->bytes / dtypes[c->dtype].bytes);
  }
  if (reduces(c->opcode)) snprintf(reduction, sizeof reduction, ", %s", reduce_ops[c->reduce_op]);
  if (c->root >= 0) snprintf(root, sizeof root, ", root %d", c->root);
  snprintf(text, capacity, "%s(%s%s%s)", ops[c->opcode], tensor, reduction, root);
}

static bool behind(c10d_group* g, int32_t rank, uint32_t step) {
  return (int32_t)(atomic_load(&g->shared->slots[rank].step) - step) < 0;
}

/* Whether all that have come to `step` call what this rank does; if not, the group has failed. With the lock held. */
static bool compare(c10d_group* g, uint32_t step) {
  const slot* slots = g->shared->slots;
  const unsigned half = step % 2;
  for (int32_t r = 0; r < g->size; r++) {
    if (behind(g, r, step) || memcmp(&slots[r].calls[half], &slots[g->rank].calls[half], sizeof(call)) == 0) continue;
    /* In the same words on both ranks. */
    const int32_t a = r < g->rank ? r : g->rank, b = r < g->rank ? g->rank : r;
    const call *first = &slots[a].calls[half], *second = &slots[b].calls[half];
    char texts[2][96], number[40] = "";
    describe(first, texts[0], sizeof texts[0]);
    describe(second, texts[1], sizeof texts[1]);
    if (first->number != second->number) snprintf(number, sizeof number, " as collective #%lu", second->number);
    return fail(g, C10D_ERR_DESYNC, r, "rank %d called %s as collective #%lu, rank %d called %s%s", a, texts[0],
                first->number, b, texts[1], number);
  }
  return true;
}

/* ---- the thread: connecting, then one op after the other -------------------------------------------------------- */

/* Whether there is still reason to wait for `awaited`; if not, the group has failed. */
static bool worth_waiting(c10d_group* g, int32_t awaited, uint32_t step, bool ticked, double* deadline) {
  if (g->state == C10D_FAILED) return false;
  for (int32_t r = 0; r < g->size; r++) {
    const bool died = ticked && g->state == C10D_OPEN && r != g->rank && has_died(g, r);
    const uint32_t place = died ? LEFT : atomic_load(&g->shared->slots[r].place);
    /* Perhaps because of what the ranks call. */
    if (place == BROKEN && g->state == C10D_OPEN && !compare(g, step)) return false;
    if (place == BROKEN) return fail(g, C10D_ERR_NETWORK, r, "rank %d has given up the group", r);
    if (place == LEFT && behind(g, r, step)) return fail(g, C10D_ERR_NETWORK, r, "rank %d has left the group", r);
  }
  const bool connecting = g->state == C10D_CONNECTING;
  double timeout_ms = g->timeout_ms;
  *deadline = connecting ? g->deadline : INFINITY;
  for (const op* o = g->first; o != NULL; o = o->next) {
    if (o->done || o->deadline >= *deadline) continue;
    *deadline = o->deadline;
    timeout_ms = o->timeout_ms;
  }
  if (now_ms() < *deadline) return true;
  return fail(g, C10D_ERR_OP_TIMEOUT, awaited, "%stimed out after %.0f ms of waiting for rank %d",
              connecting ? "connecting " : "", timeout_ms, awaited);
}

/* Comes to the next step and waits until all ranks have. */
static bool meet(c10d_group* g) {
  slot* own = &g->shared->slots[g->rank];
  const uint32_t step = ++g->step;
  atomic_store(&own->step, step);
  futex(&own->step, FUTEX_WAKE, INT32_MAX, NULL);
  for (int32_t r = 0; r < g->size; r++) {
    slot* other = &g->shared->slots[r];
    for (bool ticked = false; behind(g, r, step);) {
      const uint32_t seen = atomic_load(&other->step);
      double deadline = 0;
      pthread_mutex_lock(&g->lock);
      const bool wait = worth_waiting(g, r, step, ticked, &deadline);
      pthread_mutex_unlock(&g->lock);
      if (!wait) return false;
      const struct timespec limit = timespec_of(fmin(TICK_MS, deadline - now_ms()));
      if ((int32_t)(seen - step) < 0) ticked = futex(&other->step, FUTEX_WAIT, seen, &limit) != 0 && errno == ETIMEDOUT;
    }
  }
  return true;
}

/* Has the host set or get a value in the store. With the lock held. */
static bool ask_store(c10d_group* g, c10d_event_kind kind, const char* key) {
  snprintf(g->key, TEXT, "%s", key);
  g->answered = false;
  const uint32_t value_bytes = kind == C10D_EVENT_STORE_SET ? (uint32_t)strlen(g->value) : 0;
  note(g, (c10d_event){.kind = kind, .id = 1, .key_bytes = (uint32_t)strlen(key), .value_bytes = value_bytes});
  while (g->state == C10D_CONNECTING && !g->answered) {
    if (!await_change(g, g->deadline)) fail(g, C10D_ERR_OP_TIMEOUT, -1, "connecting timed out at key \"%s\"", key);
  }
  if (g->state != C10D_CONNECTING) return false;
  return g->answer_status == C10D_OK || fail(g, g->answer_status, -1, "store: %s", g->value);
}

/* Rank 0 makes the memory; the others open it by the path that it puts into the store. With the lock held. */
static bool open_memory(c10d_group* g) {
  const size_t bytes = sizeof(segment) + (size_t)g->size * sizeof(slot);
  uint64_t magic = 0;
  char path[TEXT] = "";
  if (g->rank == 0) {
    g->memory = memfd_create("c10d-shm", MFD_CLOEXEC);
    if (g->memory < 0 || ftruncate(g->memory, (off_t)bytes) != 0 || getrandom(&magic, sizeof magic, 0) < 0) {
      return fail(g, C10D_ERR_BACKEND, -1, "no shared memory: %s", strerror(errno));
    }
  } else {
    if (!ask_store(g, C10D_EVENT_STORE_GET, "memory")) return false;
    const bool known = sscanf(g->value, "%200s %lx", path, &magic) == 2;
    struct stat found = {0};
    g->memory = open(known ? path : "", O_RDWR | O_CLOEXEC);
    if (g->memory < 0 || fstat(g->memory, &found) != 0 || (size_t)found.st_size != bytes) {
      return fail(g, C10D_ERR_BACKEND, 0, "rank 0 shares no memory with this rank: is it on another host?");
    }
  }
  segment* shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, g->memory, 0);
  if (shared == MAP_FAILED) return fail(g, C10D_ERR_BACKEND, -1, "cannot map the memory: %s", strerror(errno));
  if (g->rank == 0) shared->magic = magic;
  if (shared->magic != magic) return fail(g, C10D_ERR_BACKEND, 0, "%s is not the memory of rank 0", path);
  g->shared = shared;
  struct flock lock = byte_of(g->rank);
  if (fcntl(g->memory, F_OFD_SETLK, &lock) != 0) return fail(g, C10D_ERR_BACKEND, -1, "lock: %s", strerror(errno));
  if (g->rank != 0) return true;
  snprintf(g->value, TEXT, "/proc/%d/fd/%d %lx", getpid(), g->memory, magic);
  return ask_store(g, C10D_EVENT_STORE_SET, "memory");
}

/* Element-wise a = a (op) b. Integers wrap around, for which C wants them unsigned. */
#define COMBINE(name, type, wrapping)                                                  \
  static void name(uint32_t reduce_op, void* into, const void* from, size_t bytes) {   \
    type* a = into;                                                                    \
    const type* b = from;                                                              \
    const size_t n = bytes / sizeof(type);                                             \
    switch (reduce_op) {                                                               \
      case C10D_SUM:                                                                   \
        for (size_t i = 0; i < n; i++) a[i] = (type)((wrapping)a[i] + (wrapping)b[i]); \
        break;                                                                         \
      case C10D_PRODUCT:                                                               \
        for (size_t i = 0; i < n; i++) a[i] = (type)((wrapping)a[i] * (wrapping)b[i]); \
        break;                                                                         \
      case C10D_MIN:                                                                   \
        for (size_t i = 0; i < n; i++) a[i] = b[i] < a[i] ? b[i] : a[i];               \
        break;                                                                         \
      case C10D_MAX:                                                                   \
        for (size_t i = 0; i < n; i++) a[i] = b[i] > a[i] ? b[i] : a[i];               \
        break;                                                                         \
    }                                                                                  \
  }
COMBINE(combine_float, float, float)
COMBINE(combine_double, double, double)
COMBINE(combine_int32, int32_t, uint32_t)
COMBINE(combine_int64, int64_t, uint64_t)

typedef void (*combiner)(uint32_t, void*, const void*, size_t);

static combiner combiner_of(uint32_t dtype) {
  static const combiner combiners[] = {[C10D_FLOAT32] = combine_float,
                                       [C10D_FLOAT64] = combine_double,
                                       [C10D_INT32] = combine_int32,
                                       [C10D_INT64] = combine_int64};
  return dtype < sizeof combiners / sizeof *combiners ? combiners[dtype] : NULL;
}

static void copy(uint64_t to, const void* from, size_t bytes) {
  if (bytes > 0) memcpy((void*)to, from, bytes);
}

/* Carries out the part of an op from byte `at` on; all slots have it. */
static void take(c10d_group* g, const op* o, uint64_t at, size_t bytes, unsigned half) {
  slot* slots = g->shared->slots;
  switch (o->call.opcode) {
    case C10D_OP_REDUCE:
      if (g->rank != o->call.root) break; /* fall through */
    case C10D_OP_ALLREDUCE:
      copy(o->own.address + at, slots[0].data[half], bytes);
      for (int32_t r = 1; r < g->size; r++) {
        combiner_of(o->call.dtype)(o->call.reduce_op, (void*)(o->own.address + at), slots[r].data[half], bytes);
      }
      break;
    case C10D_OP_BROADCAST:
      copy(o->own.address + at, slots[o->call.root].data[half], bytes);
      break;
    case C10D_OP_GATHER:
    case C10D_OP_ALLGATHER:
      for (uint32_t r = 0; r < o->output_count; r++) copy(o->outputs[r].address + at, slots[r].data[half], bytes);
      break;
    case C10D_OP_ALLGATHER_BASE:
      for (int32_t r = 0; r < g->size; r++) {
        copy(o->outputs[0].address + (uint64_t)r * o->own.bytes + at, slots[r].data[half], bytes);
      }
      break;
  }
}

static bool perform(c10d_group* g, const op* o) {
  uint64_t at = 0;
  do {
    const uint64_t left = o->own.bytes - at;
    const size_t bytes = left < CHUNK ? left : CHUNK;
    const unsigned half = (g->step + 1) % 2;
    slot* slots = g->shared->slots;
    slots[g->rank].calls[half] = o->call;
    copy((uint64_t)slots[g->rank].data[half], (const void*)(o->own.address + at), bytes);
    if (!meet(g)) return false;
    pthread_mutex_lock(&g->lock);
    const bool same = compare(g, g->step);
    pthread_mutex_unlock(&g->lock);
    if (!same) return false;
    take(g, o, at, bytes, half);
    at += bytes;
  } while (at < o->own.bytes);
  return true;
}

static void* run(void* group) {
  c10d_group* g = group;
  pthread_mutex_lock(&g->lock);
  if (open_memory(g)) {
    pthread_mutex_unlock(&g->lock);
    meet(g);
    pthread_mutex_lock(&g->lock);
  }
  if (g->state == C10D_CONNECTING) g->state = C10D_OPEN;
  note(g, (c10d_event){.kind = C10D_EVENT_READY, .status = g->status, .peer = g->peer});
  for (;;) {
    op* o = g->first;
    while (o != NULL && o->done) o = o->next;
    if (o == NULL && g->stopping) break;
    if (o == NULL) {
      pthread_cond_wait(&g->changed, &g->lock);
      continue;
    }
    o->running = true;
    o->started_ns = c10d_clock_ns();
    pthread_mutex_unlock(&g->lock);
    const bool well = perform(g, o);
    pthread_mutex_lock(&g->lock);
    end_op(g, o, well ? C10D_OK : g->status);
  }
  g->ended = true;
  pthread_cond_broadcast(&g->changed);
  pthread_mutex_unlock(&g->lock);
  return NULL;
}

/* ---- the ABI --------------------------------------------------------------------------------------------------- */

uint32_t c10d_abi_version(void) { return C10D_ABI_VERSION; }

int32_t c10d_probe(char* version, uint32_t capacity) {
  return (int32_t)fmin(snprintf(version, capacity, "shared memory 1.0"), capacity);
}

static int32_t refuse(int32_t status, const char* text) {
  last_status = status;
  snprintf(last_error, TEXT, "%s", text);
  return status;
}

/* A struct of the host's, which may know fewer fields or more: missing ones are 0, and so must be what is not known here. */
static bool read_struct(void* known, size_t known_size, const void* given, uint32_t size) {
  const size_t common = size < known_size ? size : known_size;
  memset(known, 0, known_size);
  if (size < 8 || size % 8 != 0 || size > 4096) return false;
  memcpy(known, given, common);
  for (size_t i = common; i < size; i++) {
    if (((const char*)given)[i] != 0) return false;
  }
  return true;
}

/* The other way round. */
static void write_struct(void* to, uint32_t size, const void* known, size_t known_size) {
  memset(to, 0, size);
  memcpy(to, known, size < known_size ? size : known_size);
}

static int32_t give_failure(c10d_failure* to, int32_t status, int32_t rank, int32_t peer, const char* text) {
  c10d_failure known;
  if (!read_struct(&known, sizeof known, to, to->size)) return C10D_ERR_INVALID;
  const size_t length = strlen(text);
  known.status = status;
  known.peer = peer;
  known.text_bytes = length < known.text_capacity ? (uint32_t)length : known.text_capacity;
  copy(known.text, text, known.text_bytes);
  if (status == C10D_ERR_DESYNC) {
    const int32_t ranks[] = {rank, peer};
    known.mismatch = C10D_MISMATCH_CALL;
    known.rank_count = 2;
    copy(known.ranks, ranks, (known.rank_capacity < 2 ? known.rank_capacity : 2) * sizeof *ranks);
  }
  write_struct(to, to->size, &known, sizeof known);
  return status;
}

int32_t c10d_last_failure(c10d_failure* failure) { return give_failure(failure, last_status, -1, -1, last_error); }

c10d_group* c10d_create(const c10d_config* given) {
  c10d_config known;
  const c10d_config* config = &known;
  if (!read_struct(&known, sizeof known, given, given->size)) {
    refuse(C10D_ERR_INVALID, "c10d_config has a field that this library is too old for");
    return NULL;
  }
  if (config->device_type != C10D_DEVICE_CPU) {
    refuse(C10D_ERR_UNSUPPORTED, "shm takes tensors in host memory only");
    return NULL;
  }
  c10d_group* g = calloc(1, sizeof *g);
  if (g == NULL || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, g->wake) != 0) {
    refuse(C10D_ERR_BACKEND, "no memory or no sockets left");
    free(g);
    return NULL;
  }
  g->rank = config->rank;
  g->size = config->world_size;
  g->timeout_ms = config->timeout_ms;
  g->deadline = deadline_of(config->timeout_ms);
  g->peer = g->memory = -1;
  g->last = &g->first;
  g->next_id = 1;
  pthread_mutex_init(&g->lock, NULL);
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&g->changed, &monotonic);
  sigset_t all, before; /* signals are for the host's threads */
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const int error = pthread_create(&g->thread, NULL, run, g);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (error == 0) return g;
  refuse(C10D_ERR_BACKEND, strerror(error));
  close(g->wake[0]);
  close(g->wake[1]);
  free(g);
  return NULL;
}

/* This library's own split, streams and registration of memory: it has none, and says so. */
c10d_group* c10d_split(c10d_group* g, const c10d_config* config) {
  (void)g, (void)config;
  refuse(C10D_ERR_UNSUPPORTED, "shm has no split of its own");
  return NULL;
}

int32_t c10d_synchronize(c10d_group* g, uint64_t id, uint64_t stream, double timeout_ms) {
  (void)g, (void)id, (void)stream, (void)timeout_ms;
  return refuse(C10D_ERR_UNSUPPORTED, "shm has no streams");
}

uint64_t c10d_window_address(c10d_group* g, uint64_t address, int32_t rank) {
  (void)g, (void)address, (void)rank;
  return 0;
}

/* All that the plugin's table says. */
void c10d_group_capabilities(c10d_group* g, c10d_capabilities* capabilities, uint32_t size) {
  (void)g;
  write_struct(capabilities, size, &(c10d_capabilities){.concurrency = 1}, sizeof(c10d_capabilities));
}

int32_t c10d_wake_fd(c10d_group* g) { return g->wake[0]; }

int32_t c10d_drain(c10d_group* g, c10d_event* events, uint32_t size, uint32_t max) {
  uint32_t count = 0;
  pthread_mutex_lock(&g->lock);
  g->woken = false;
  while (count < max && g->note_count > 0) {
    write_struct((char*)events + (size_t)count++ * size, size, &g->notes[0], sizeof *g->notes);
    memmove(g->notes, g->notes + 1, --g->note_count * sizeof *g->notes);
  }
  for (op** at = &g->first; *at != NULL && count < max;) {
    op* o = *at;
    const bool news = o->done && !o->reported;
    const c10d_event event = event_of(g, o);
    if (news) write_struct((char*)events + (size_t)count++ * size, size, &event, sizeof event);
    o->reported |= news;
    if (news && o->status == C10D_OK)
      drop(g, at);
    else
      at = &o->next;
  }
  pthread_mutex_unlock(&g->lock);
  return (int32_t)count;
}

int32_t c10d_exchange_read(c10d_group* g, uint64_t id, void* key, uint32_t key_capacity, void* value,
                           uint32_t value_capacity) {
  (void)id; /* only one is ever under way */
  pthread_mutex_lock(&g->lock);
  const size_t key_bytes = strlen(g->key), value_bytes = strlen(g->value);
  const bool fits = key_bytes <= key_capacity && (value_capacity == 0 || value_bytes <= value_capacity);
  if (fits) copy((uint64_t)key, g->key, key_bytes);
  if (fits && value_capacity > 0) copy((uint64_t)value, g->value, value_bytes);
  pthread_mutex_unlock(&g->lock);
  return fits ? C10D_OK : C10D_ERR_INVALID;
}

int32_t c10d_exchange_reply(c10d_group* g, uint64_t id, int32_t status, const void* data, uint32_t bytes) {
  (void)id;
  pthread_mutex_lock(&g->lock);
  g->answered = true;
  g->answer_status = status;
  snprintf(g->value, TEXT, "%.*s", (int)bytes, bytes > 0 ? (const char*)data : "");
  pthread_cond_broadcast(&g->changed);
  pthread_mutex_unlock(&g->lock);
  return C10D_OK;
}

/* Whether root and buffers are such that take() stays inside of them. */
static bool fits(const c10d_group* g, const c10d_op* request) {
  const c10d_buffer *in = (const c10d_buffer*)request->inputs, *out = (const c10d_buffer*)request->outputs;
  const uint32_t opcode = request->opcode, in_count = request->input_count, out_count = request->output_count;
  if (is_rooted(opcode) && (request->peer < 0 || request->peer >= g->size)) return false;
  if ((in_count > 0 && in == NULL) || (out_count > 0 && out == NULL)) return false;
  uint64_t whole = 0;
  switch (opcode) {
    case C10D_OP_BARRIER:
      return true;
    case C10D_OP_ALLGATHER_BASE:
      return in_count == 1 && out_count == 1 && !__builtin_mul_overflow(in->bytes, (uint64_t)g->size, &whole) &&
             out->bytes == whole;
    case C10D_OP_GATHER:
      if (request->peer != g->rank) return in_count == 1 && out_count == 0;
      /* fall through */
    case C10D_OP_ALLGATHER:
      if (in_count != 1 || out_count != (uint32_t)g->size) return false;
      for (uint32_t r = 0; r < out_count; r++) {
        if (out[r].bytes != in->bytes) return false;
      }
      return true;
    default:
      return in_count == 0 && out_count == 1;
  }
}

/* What the capability table says, once more: this side is the last that can refuse. */
static int32_t check(const c10d_group* g, const c10d_op* request) {
  if (!(request->timeout_ms >= 0)) return refuse(C10D_ERR_INVALID, "timeout_ms must not be negative");
  if (!is_dtype(request->dtype)) return refuse(C10D_ERR_UNSUPPORTED, "unknown dtype");
  if (!fits(g, request)) return refuse(C10D_ERR_INVALID, "root or buffers do not fit the op");
  switch (request->opcode) {
    case C10D_OP_ALLREDUCE:
    case C10D_OP_REDUCE:
      if (combiner_of(request->dtype) == NULL) return refuse(C10D_ERR_UNSUPPORTED, "shm does not reduce this dtype");
      if (request->reduce_op == C10D_SUM || (request->reduce_op >= C10D_PRODUCT && request->reduce_op <= C10D_MAX)) {
        return C10D_OK;
      }
      return refuse(C10D_ERR_UNSUPPORTED, "shm has SUM, PRODUCT, MIN and MAX only");
    case C10D_OP_BARRIER:
      if ((request->flags & C10D_FLAG_MONITORED) == 0) return C10D_OK;
      return refuse(C10D_ERR_UNSUPPORTED, "shm has no monitored barrier");
    case C10D_OP_BROADCAST:
    case C10D_OP_ALLGATHER:
    case C10D_OP_ALLGATHER_BASE:
    case C10D_OP_GATHER:
      return C10D_OK;
    default:
      return refuse(C10D_ERR_UNSUPPORTED, "shm does not implement this op");
  }
}

/* A copy of the request, since its tables are the host's again when the call returns. */
static op* op_of(const c10d_op* request, const void* input, void* output) {
  op* o = calloc(1, sizeof *o + request->output_count * sizeof(c10d_buffer));
  if (o == NULL) return NULL;
  o->output_count = request->output_count;
  copy((uint64_t)o->outputs, (const void*)request->outputs, request->output_count * sizeof(c10d_buffer));
  if (output != NULL && o->output_count > 0) o->outputs[0].address = (uint64_t)output;
  if (request->input_count > 0)
    o->own = *(const c10d_buffer*)request->inputs;
  else if (o->output_count > 0)
    o->own = o->outputs[0];
  if (input != NULL && request->input_count > 0) o->own.address = (uint64_t)input;
  o->call = call_of(request, o->own.bytes);
  o->timeout_ms = request->timeout_ms;
  o->deadline = deadline_of(request->timeout_ms);
  return o;
}

static int64_t submit(c10d_group* g, const c10d_op* ops, uint32_t count, const void* input, void* output) {
  op *made = NULL, **end = &made;
  int32_t status = C10D_OK;
  for (uint32_t i = 0; i < count && status == C10D_OK; i++) {
    c10d_op request;
    /* All records are as large as the first. */
    const bool is_known = read_struct(&request, sizeof request, (const char*)ops + (size_t)i * ops->size, ops->size);
    status = is_known ? check(g, &request)
                      : refuse(C10D_ERR_INVALID, "c10d_op has a field that this library is too old for");
    if (status != C10D_OK) break;
    *end = op_of(&request, input, output);
    if (*end == NULL) status = refuse(C10D_ERR_BACKEND, "no memory left");
    if (*end != NULL) end = &(*end)->next;
  }
  /* A refused batch takes its turns, so that a rank which has refused alone is found out. */
  for (uint32_t all = 0; all < count && status != C10D_OK; all++) c10d_skip_turn(g);
  pthread_mutex_lock(&g->lock);
  int64_t result = (int64_t)g->next_id;
  if (status != C10D_OK)
    result = status;
  else if (g->state == C10D_FAILED)
    result = refuse(C10D_ERR_GROUP_FAILED, g->cause);
  else if (g->state != C10D_OPEN)
    result = refuse(C10D_ERR_CLOSED, "the group is not open");
  while (made != NULL) {
    op* o = made;
    made = o->next;
    o->next = NULL;
    if (result < 0) {
      free(o);
      continue;
    }
    o->id = g->next_id++;
    o->call.number = ++g->collectives;
    *g->last = o;
    g->last = &o->next;
    g->stats.submitted++;
  }
  pthread_cond_broadcast(&g->changed);
  pthread_mutex_unlock(&g->lock);
  return result;
}

int64_t c10d_submit(c10d_group* g, const c10d_op* ops, uint32_t count) { return submit(g, ops, count, NULL, NULL); }

int64_t c10d_submit_one(c10d_group* g, const c10d_op* request, const void* input, void* output) {
  return submit(g, request, 1, input, output);
}

void c10d_skip_turn(c10d_group* g) {
  pthread_mutex_lock(&g->lock);
  g->collectives++;
  pthread_mutex_unlock(&g->lock);
}

void c10d_kick(c10d_group* g) { (void)g; /* ops begin when they are submitted */ }

int32_t c10d_wait(c10d_group* g, uint64_t id, double timeout_ms, c10d_event* result, uint32_t size) {
  const double deadline = now_ms() + timeout_ms;
  pthread_mutex_lock(&g->lock);
  op** at = find(g, id);
  op* o = *at;
  int32_t status = o == NULL || o->reported ? C10D_ERR_UNKNOWN_OP : C10D_OK;
  if (status == C10D_OK) {
    o->awaited = true;
    while (!o->done && await_change(g, deadline)) continue;
    o->awaited = false;
    status = o->done ? o->status : C10D_ERR_WAIT_TIMEOUT;
    o->reported = o->done;
    const c10d_event event = event_of(g, o);
    if (o->done && result != NULL) write_struct(result, size, &event, sizeof event);
    if (status == C10D_OK) drop(g, find(g, id));
  }
  pthread_mutex_unlock(&g->lock);
  return status;
}

int32_t c10d_op_started(c10d_group* g, uint64_t id) {
  pthread_mutex_lock(&g->lock);
  const op* o = *find(g, id);
  const int32_t started = o == NULL || o->running || o->done;
  pthread_mutex_unlock(&g->lock);
  return started;
}

int32_t c10d_take_failure(c10d_group* g, uint64_t id, c10d_failure* failure) {
  pthread_mutex_lock(&g->lock);
  op** at = find(g, id);
  const bool of_op = *at != NULL && (*at)->reported && (*at)->status != C10D_OK;
  if (of_op) drop(g, at);
  const int32_t status = of_op || id == 0 ? g->status : C10D_OK;
  give_failure(failure, status, g->rank, g->peer, status == C10D_OK ? "" : g->cause);
  pthread_mutex_unlock(&g->lock);
  return status;
}

int32_t c10d_group_state(c10d_group* g) {
  pthread_mutex_lock(&g->lock);
  const int32_t state = g->state;
  pthread_mutex_unlock(&g->lock);
  return state;
}

void c10d_abort(c10d_group* g, int32_t status, const char* reason) {
  pthread_mutex_lock(&g->lock);
  fail(g, status, -1, "%s", reason);
  pthread_mutex_unlock(&g->lock);
}

void c10d_group_stats(c10d_group* g, c10d_stats* stats, uint32_t size) {
  pthread_mutex_lock(&g->lock);
  c10d_stats now = g->stats;
  for (const op* o = g->first; o != NULL; o = o->next) now.pinned += o->running && !o->done && g->stopping;
  pthread_mutex_unlock(&g->lock);
  write_struct(stats, size, &now, sizeof now);
}

int32_t c10d_close(c10d_group* g, double timeout_ms) {
  const double deadline = now_ms() + timeout_ms;
  pthread_mutex_lock(&g->lock);
  bool busy = g->state == C10D_CONNECTING;
  for (const op* o = g->first; o != NULL; o = o->next) busy |= !o->done;
  if (busy) fail(g, C10D_ERR_CLOSED, -1, "the group was closed");
  leave(g, LEFT);
  g->stopping = true;
  pthread_cond_broadcast(&g->changed);
  while (!g->ended && await_change(g, deadline)) continue;
  g->state = C10D_CLOSED;
  const bool ended = g->ended;
  pthread_mutex_unlock(&g->lock);
  if (!ended) return 1;
  pthread_join(g->thread, NULL);
  while (g->first != NULL) drop(g, &g->first);
  if (g->shared != NULL) munmap(g->shared, sizeof(segment) + (size_t)g->size * sizeof(slot));
  if (g->memory >= 0) close(g->memory);
  close(g->wake[1]);
  pthread_cond_destroy(&g->changed);
  pthread_mutex_destroy(&g->lock);
  free(g);
  return 0;
}
