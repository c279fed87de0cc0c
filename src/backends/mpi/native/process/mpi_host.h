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

/*
 * Begins MPI on a thread of its own and returns at once; again, it does nothing. `multiple`: MPI_THREAD_MULTIPLE. `mixed`:
 * some ranks of the job are other programs, which know nothing of what this shim's ranks tell each other.
 */
C10D_EXPORT void c10d_mpi_start(int32_t multiple, int32_t mixed);

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

/*
 * Takes the next turn to make a communicator, for the option `turn` of the group that is made next. Where that fails, the host
 * settles the turn: else later groups wait for it in vain.
 */
C10D_EXPORT uint32_t c10d_mpi_take_turn(void);

/*
 * After a group could not be made. `decision`: the value of its key C10D_MPI_DECISION in the store; none where that is not to
 * be had. `missing`: the ranks in the group that have not come to it, as far as that is known.
 *
 * The host writes that key by compareSet, so that its first value stays, and refuses what comes later: of 8 bytes, the
 * group's number, when all ranks have come; of 4, a rank in the machine's byte order, when that has given up before.
 */
#define C10D_MPI_DECISION "mpi/decision"
C10D_EXPORT void c10d_mpi_settle(uint32_t turn, const void* decision, uint32_t bytes, const int32_t* missing,
                                 uint32_t count);

/*
 * The process is about to end with this code. MPI is ended, once: by MPI_Finalize, which waits for all ranks, or with
 * another code than 0 by MPI_Abort, which ends them. Where ops that cannot be called back are under way the waiting has a
 * limit. The shim does the same by itself when the process ends without this call, as long as that is by quick_exit().
 */
C10D_EXPORT void c10d_mpi_end(int32_t code);

#ifdef __cplusplus
}
#endif

#endif
