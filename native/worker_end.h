/*
 * For shims: the end of a Worker that has groups.
 *
 * Workers of the host have memory of their own, which is freed when they end: by terminate(), by an error or by
 * process.exit(), even while ops are in flight. So a shim for use in Workers is a Node-API module as well, which the
 * host loads once on each of them. Its clean-up hook runs on the Worker's thread while the memory still exists. It
 * aborts the groups that were created there, and returns only when native threads have stopped using their buffers.
 *
 * Include this file in exactly one source file of a shim, in C or C++; those built over native/engine have it. It needs
 * no Node-API headers, and no symbols of the host when the shim is loaded elsewhere. It relies on three promises of
 * c10d.h: c10d_abort and c10d_close make native threads release buffers soon, c10d_close may be called again, and
 * c10d_stats.pinned counts what is still borrowed. If a library cannot cancel an op, which stays pinned, the Worker's
 * thread stays too: a thread that never ends does less harm than writes to freed memory.
 */
#ifndef C10D_WORKER_END_H
#define C10D_WORKER_END_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "c10d.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct napi_env__* napi_env;
typedef struct napi_value__* napi_value;
typedef struct napi_callback_info__* napi_callback_info;
typedef napi_value (*c10d_napi_callback)(napi_env, napi_callback_info);

#define C10D_OF_HOST __attribute__((weak)) extern
C10D_OF_HOST int napi_add_env_cleanup_hook(napi_env env, void (*hook)(void*), void* data);
C10D_OF_HOST int napi_create_double(napi_env env, double value, napi_value* result);
C10D_OF_HOST int napi_create_function(napi_env env, const char* name, size_t length, c10d_napi_callback call,
                                      void* data, napi_value* result);
C10D_OF_HOST int napi_get_cb_info(napi_env env, napi_callback_info info, size_t* count, napi_value* arguments,
                                  napi_value* self, void** data);
C10D_OF_HOST int napi_get_value_double(napi_env env, napi_value value, double* result);
C10D_OF_HOST int napi_set_named_property(napi_env env, napi_value object, const char* name, napi_value value);
#undef C10D_OF_HOST

/* Groups that were created on one thread of the host and are not closed. */
typedef struct c10d_worker {
  c10d_group** groups;
  size_t count;
  size_t capacity;
} c10d_worker;

/* How often a closing group is polled; how long to wait until a group that holds no buffers can be freed. */
#define C10D_WORKER_POLL_MS 20
#define C10D_WORKER_ABORTED_MS 300
#define C10D_WORKER_CLOSED_MS 1000

/* Whether it has work in flight: then it is aborted, which notifies the peers, else closed in order. */
static int c10d_worker_is_busy(c10d_group* group) {
  c10d_stats stats;
  if (c10d_group_state(group) == C10D_CONNECTING) return 1;
  c10d_group_stats(group, &stats, sizeof stats);
  return stats.submitted > stats.completed + stats.failed;
}

/* Returns when the group no longer touches buffers of this thread, however long that takes. */
static void c10d_worker_release(c10d_group* group, int limit_ms) {
  static const char warning[] =
      "bun-c10d: a Worker has ended, but a native library still uses its buffers; its thread waits for that\n";
  int pinned_ms = 0;
  int closing_ms = 0;
  int warned = 0;
  c10d_stats stats;
  while (c10d_close(group, C10D_WORKER_POLL_MS) != 0) {
    c10d_group_stats(group, &stats, sizeof stats);
    if (stats.pinned == 0) {
      closing_ms += C10D_WORKER_POLL_MS;
      if (closing_ms >= limit_ms) return;
      continue;
    }
    pinned_ms += C10D_WORKER_POLL_MS;
    if (warned || pinned_ms < C10D_WORKER_CLOSED_MS) continue;
    warned = 1;
    if (write(STDERR_FILENO, warning, sizeof warning - 1) < 0) continue;
  }
}

static void c10d_worker_end(void* data) {
  c10d_worker* worker = (c10d_worker*)data;
  size_t busy = 0;
  size_t i;
  /* All are aborted first, so that they end at the same time; the busy ones are moved to the front. */
  for (i = 0; i < worker->count; i++) {
    c10d_group* group = worker->groups[i];
    if (!c10d_worker_is_busy(group)) continue;
    c10d_abort(group, C10D_ERR_ABORTED, "its Worker has ended");
    worker->groups[i] = worker->groups[busy];
    worker->groups[busy++] = group;
  }
  for (i = 0; i < worker->count; i++) {
    c10d_worker_release(worker->groups[i], i < busy ? C10D_WORKER_ABORTED_MS : C10D_WORKER_CLOSED_MS);
  }
  free(worker->groups);
  free(worker);
}

static c10d_worker* c10d_worker_of(napi_env env, napi_callback_info info, size_t count, double* numbers) {
  napi_value arguments[2] = {NULL, NULL};
  void* data = NULL;
  size_t given = count;
  size_t i;
  napi_get_cb_info(env, info, &given, arguments, NULL, &data);
  for (i = 0; i < count; i++) {
    if (i >= given || napi_get_value_double(env, arguments[i], &numbers[i]) != 0) numbers[i] = 0;
  }
  return (c10d_worker*)data;
}

static napi_value c10d_worker_number(napi_env env, double number) {
  napi_value value = NULL;
  napi_create_double(env, number, &value);
  return value;
}

/* create(address of a c10d_config): c10d_create. Returns the address of the group, or 0. */
static napi_value c10d_worker_create(napi_env env, napi_callback_info info) {
  double config = 0;
  c10d_worker* worker = c10d_worker_of(env, info, 1, &config);
  c10d_group* group;
  if (worker->count == worker->capacity) {
    const size_t capacity = worker->capacity == 0 ? 4 : worker->capacity * 2;
    c10d_group** groups = (c10d_group**)realloc(worker->groups, capacity * sizeof *groups);
    if (groups == NULL) return c10d_worker_number(env, 0);
    worker->groups = groups;
    worker->capacity = capacity;
  }
  group = c10d_create((const c10d_config*)(uintptr_t)config);
  if (group != NULL) worker->groups[worker->count++] = group;
  return c10d_worker_number(env, (double)(uintptr_t)group);
}

/* close(group, timeout in ms): c10d_close. */
static napi_value c10d_worker_close(napi_env env, napi_callback_info info) {
  double numbers[2];
  c10d_worker* worker = c10d_worker_of(env, info, 2, numbers);
  c10d_group* group = (c10d_group*)(uintptr_t)numbers[0];
  const int32_t left = c10d_close(group, numbers[1]);
  size_t i;
  for (i = 0; left == 0 && i < worker->count; i++) {
    if (worker->groups[i] != group) continue;
    worker->groups[i] = worker->groups[--worker->count];
    break;
  }
  return c10d_worker_number(env, left);
}

/*
 * Called by the host when one of its threads loads the module. Exports create and close, which the host uses on this
 * thread in place of c10d_create and c10d_close, and the address of c10d_close, which shows the host that it has not
 * loaded a second copy of the shim. NULL when out of memory: then there is no hook, and the host reports it.
 */
C10D_EXPORT napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  c10d_worker* worker = (c10d_worker*)calloc(1, sizeof *worker);
  napi_value create = NULL;
  napi_value close = NULL;
  if (worker == NULL) return NULL;
  if (napi_add_env_cleanup_hook(env, c10d_worker_end, worker) != 0) {
    free(worker);
    return NULL;
  }
  napi_create_function(env, "create", strlen("create"), c10d_worker_create, worker, &create);
  napi_create_function(env, "close", strlen("close"), c10d_worker_close, worker, &close);
  napi_set_named_property(env, exports, "create", create);
  napi_set_named_property(env, exports, "close", close);
  napi_set_named_property(env, exports, "address", c10d_worker_number(env, (double)(uintptr_t)&c10d_close));
  return exports;
}

#ifdef __cplusplus
}
#endif

#endif
