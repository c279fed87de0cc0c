/*
 * A device in software, for tests without a real device, from C++ or by FFI. It is cuda:0 to cuda:29 of its process.
 * A function with a status returns 0, or -1 for invalid arguments.
 */
#ifndef SOFTDEV_H
#define SOFTDEV_H

#include <stdint.h>

#include "c10d.h"

#ifdef __cplusplus
extern "C" {
#endif

/* From now on, delays before each piece of work are drawn with `seed`: none, or up to the longest. */
C10D_EXPORT void softdev_set_seed(uint64_t seed, uint32_t longest_delay_us);

/* Memory is poison at first. Its addresses are not of the process: the host can only copy to and from it. 0: error. */
C10D_EXPORT uint64_t softdev_malloc(int32_t device, uint64_t bytes);
C10D_EXPORT int32_t softdev_free(uint64_t address);
/* Blocks that were not freed. */
C10D_EXPORT uint64_t softdev_blocks(void);

/* Streams of a device do what is put into them in order. Each device has a default stream: 0. */
C10D_EXPORT uint64_t softdev_stream_create(int32_t device);
/* Work that is in it is still done. */
C10D_EXPORT int32_t softdev_stream_destroy(int32_t device, uint64_t stream);
/* Blocks until what is in the stream is done; -1 on time-out. */
C10D_EXPORT int32_t softdev_stream_synchronize(int32_t device, uint64_t stream, double timeout_ms);

/*
 * Puts a copy, or a pattern of one byte, into a stream. copy_in copies the bytes at once; copy_out blocks until they
 * have arrived.
 */
C10D_EXPORT int32_t softdev_copy_in(int32_t device, uint64_t stream, uint64_t to, const void* from, uint64_t bytes);
C10D_EXPORT int32_t softdev_copy_out(int32_t device, uint64_t stream, void* to, uint64_t from, uint64_t bytes);
C10D_EXPORT int32_t softdev_copy(int32_t device, uint64_t stream, uint64_t to, uint64_t from, uint64_t bytes);
C10D_EXPORT int32_t softdev_fill(int32_t device, uint64_t stream, uint64_t to, uint8_t byte, uint64_t bytes);

/* An event is recorded in one stream, for others to wait for. */
C10D_EXPORT uint64_t softdev_event_create(void);
C10D_EXPORT int32_t softdev_event_record(uint64_t event, int32_t device, uint64_t stream);
C10D_EXPORT int32_t softdev_stream_wait_event(int32_t device, uint64_t stream, uint64_t event);
/* 1 if what was recorded is done, else 0. */
C10D_EXPORT int32_t softdev_event_query(uint64_t event);
C10D_EXPORT int32_t softdev_event_destroy(uint64_t event);

/* What is put into the stream from now on waits until the hold, an event, is released. */
C10D_EXPORT uint64_t softdev_hold(int32_t device, uint64_t stream);
C10D_EXPORT int32_t softdev_release(uint64_t hold);

/* Number of pieces of work that failed, and the reason of the last one; returns the length of the text. */
C10D_EXPORT uint64_t softdev_faults(void);
C10D_EXPORT int32_t softdev_last_fault(char* text, uint32_t capacity);

/* From now on, c10d_probe fails for this reason; with NULL, no longer. */
C10D_EXPORT void softdev_make_unavailable(const char* reason);

#ifdef __cplusplus
}
#endif

#endif
