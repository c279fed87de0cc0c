/*
 * What the MPI shim exports beside native/c10d.h: MPI's own begin and end, which belong to the process and not to a group.
 */
#ifndef C10D_MPI_HOST_H
#define C10D_MPI_HOST_H

#include <stdint.h>

#include "c10d.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Begins MPI on a thread of its own and returns at once; again, it does nothing. `multiple`: MPI_THREAD_MULTIPLE. */
C10D_EXPORT void c10d_mpi_start(int32_t multiple);

/* 0 not begun, 1 beginning, 2 up, 3 failed, 4 ended. */
C10D_EXPORT int32_t c10d_mpi_state(void);

/* Why it failed; returns the length of the text, of which up to `capacity` bytes are written. */
C10D_EXPORT uint32_t c10d_mpi_error(char* text, uint32_t capacity);

C10D_EXPORT int32_t c10d_mpi_rank(void);
C10D_EXPORT int32_t c10d_mpi_size(void);

/* Whether any thread may call MPI. */
C10D_EXPORT int32_t c10d_mpi_any_thread(void);

/* Begins to give rank 0's bytes, C10D_MPI_SHARED of them, to all ranks; every rank calls it. 0, or a negative status. */
#define C10D_MPI_SHARED 1024
C10D_EXPORT int32_t c10d_mpi_share(const void* bytes);

/* 1 and the bytes when they have come, 0 before, or a negative status. */
C10D_EXPORT int32_t c10d_mpi_shared(void* bytes);

/* Ops that MPI has begun and not ended, those of failed groups among them. */
C10D_EXPORT int32_t c10d_mpi_unfinished(void);

/* MPI_Finalize. Waits for all ranks, up to `limit_ms`; infinity for no limit. Returns whether it is done. */
C10D_EXPORT int32_t c10d_mpi_finalize(double limit_ms);

/* MPI_Abort: ends all ranks of the job with this exit code. */
C10D_EXPORT void c10d_mpi_abort(int32_t code);

#ifdef __cplusplus
}
#endif

#endif
