/*
 * What the MPI shim exports in addition to native/c10d.h: the start and the end of MPI, which belong to the process and
 * not to a group.
 */
#ifndef C10D_MPI_HOST_H
#define C10D_MPI_HOST_H

#include <stdint.h>

#include "c10d.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Starts MPI on a thread of its own and returns at once; further calls do nothing. `multiple`: MPI_THREAD_MULTIPLE.
 * `mixed`: some ranks of the job are other programs, which do not receive the messages that ranks of this shim send
 * each other.
 */
C10D_EXPORT void c10d_mpi_start(int32_t multiple, int32_t mixed);

/* 0 not started, 1 starting, 2 up, 3 failed, 4 ended. */
C10D_EXPORT int32_t c10d_mpi_state(void);

/* Why it failed. Returns the length of the text; up to `capacity` bytes of it are written. */
C10D_EXPORT uint32_t c10d_mpi_error(char* text, uint32_t capacity);

C10D_EXPORT int32_t c10d_mpi_rank(void);
C10D_EXPORT int32_t c10d_mpi_size(void);

/* Whether any thread may call MPI. */
C10D_EXPORT int32_t c10d_mpi_any_thread(void);

/* Begins to send C10D_MPI_SHARED bytes of rank 0 to all ranks; every rank calls it. 0, or a negative status. */
#define C10D_MPI_SHARED 1024
C10D_EXPORT int32_t c10d_mpi_share(const void* bytes);

/* 1 and the bytes when they have arrived, 0 before, or a negative status. */
C10D_EXPORT int32_t c10d_mpi_shared(void* bytes);

/*
 * Takes the next turn to make a communicator, for the option `turn` of the group that is made next. If that fails, the
 * host has to settle the turn, or later groups wait for it in vain.
 */
C10D_EXPORT uint32_t c10d_mpi_take_turn(void);

/*
 * Called after a group could not be made. `decision`: the value of its key C10D_MPI_DECISION in the store; empty if
 * that cannot be read. `missing`: the ranks of the group that have not joined it, as far as they are known.
 *
 * The host writes that key by compareSet, so that its first value stays, and refuses later ones. A value of 8 bytes is
 * the group's number, when all ranks have arrived. One of 4 bytes is a rank that gave up before, in the machine's byte
 * order.
 */
#define C10D_MPI_DECISION "mpi/decision"
C10D_EXPORT void c10d_mpi_settle(uint32_t turn, const void* decision, uint32_t bytes, const int32_t* missing,
                                 uint32_t count);

/*
 * The process is about to exit with this code. MPI is ended once: for code 0 by MPI_Finalize, which waits for all
 * ranks, otherwise by MPI_Abort, which ends them. If ops that cannot be cancelled are in flight, the wait has a limit.
 * The shim does the same by itself if the process exits without this call, as long as it does so by quick_exit().
 */
C10D_EXPORT void c10d_mpi_end(int32_t code);

#ifdef __cplusplus
}
#endif

#endif
