/* The emulated CUDA driver, as other parts of the emulator and tests use it: beside the driver's own functions
 * (driver_api.h), its libcuda.so.1 exports these. It is no GPU and computes on the CPU.
 *
 * It is adversarial: fresh memory is poison, the host cannot read device memory, work runs late on a thread per stream,
 * and misuse is recorded as a fault of the program. Environment, read at first use:
 *   NCCL_EMULATOR_DEVICES       number of devices, 0 to 64 (4)
 *   NCCL_EMULATOR_SEED          seed of the delays (1); the variable RANK is mixed in, so that ranks differ
 *   NCCL_EMULATOR_DELAY_US      longest delay before a piece of work (200)
 *   NCCL_EMULATOR_MEMORY_MB     memory of a device (1024)
 *   NCCL_EMULATOR_NULL          1: null mode. Work runs at once in the thread that enqueues it, without delays
 *   NCCL_EMULATOR_FREE_WAIT_MS  how long freeing memory waits for work that uses it (2000)
 *   NCCL_EMULATOR_PRINT_FAULTS  1: prints each fault to stderr
 *
 * All functions may be called by any thread. */
#ifndef NCCL_EMULATOR_CUDA_EMULATOR_H
#define NCCL_EMULATOR_CUDA_EMULATOR_H

#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

typedef struct CUstream_st* CUstream;
typedef uint64_t CUdeviceptr;
typedef int CUresult;

/* Runs on the stream's thread, in order. It may block, but must return, at the latest when the device is broken
 * (cuemu_broken). A result other than 0 is an asynchronous failure of the device, sticky as CUDA's. It must not call the
 * driver: as in a host function of CUDA, its functions return CUDA_ERROR_NOT_PERMITTED there. */
typedef int (*cuemu_work)(void* data);

/* Puts work into a stream; 0 is the default stream of the device. `what` names it in faults and is copied. `free_data`,
 * if not NULL, is called once afterwards, also if the work is discarded because the device is broken, and before events
 * behind it complete. If the call fails, nothing is called, and `data` still belongs to the caller.
 * Fails with CUDA_ERROR_INVALID_HANDLE (no such stream on this device: a fault), CUDA_ERROR_INVALID_CONTEXT (the device
 * has no primary context), CUDA_ERROR_INVALID_DEVICE, or the error of a broken device. */
CUresult cuemu_enqueue(int device, CUstream stream, const char* what, cuemu_work run, void (*free_data)(void*),
                       void* data);
/* Declares device or pinned memory that the work uses which this thread enqueues next. Freeing it before the work has
 * ended is a fault. Addresses that are in no allocation are ignored. */
void cuemu_uses(CUdeviceptr address, size_t bytes);
/* Device memory as the CPU can use it, for code of the emulator only; NULL if the range is not within one allocation of
 * that device. Memory that queued work has declared stays usable until the work has ended, even if it is freed. */
void* cuemu_alias(int device, CUdeviceptr address, size_t bytes);
/* Notes that a library has registered device memory, as `what`: freeing it before cuemu_deregister is a fault. Returns the
 * number of the registration; 0 if the range is not within one allocation. */
uint64_t cuemu_register(CUdeviceptr address, size_t bytes, const char* what);
void cuemu_deregister(uint64_t registration);
/* -1: not device memory. */
int cuemu_device_of(CUdeviceptr address);
/* -1: no such stream. A default stream (0, 1, 2) belongs to the current context of the thread. */
int cuemu_stream_device(CUstream stream);
/* Device of the context of this thread, -1 if none. */
int cuemu_current_device(void);
/* Seeded number for delays and other choices: the same sequence for the same seed, rank and name. */
uint64_t cuemu_random(const char* name);
/* Sleeps for a seeded time of at most NCCL_EMULATOR_DELAY_US; for use in work. */
void cuemu_nap(const char* name);
int cuemu_null_mode(void);

/* Records a fault of the program under test: misuse, use after free. */
void cuemu_report(const char* text);
/* How many so far. */
uint64_t cuemu_faults(void);
/* Text of the last fault, or of fault number `index` from 0 on: cut to the capacity, with a 0 at its end. Returns its
 * whole length, -1 if there is none. */
int32_t cuemu_last_fault(char* text, uint32_t capacity);
int32_t cuemu_fault(uint64_t index, char* text, uint32_t capacity);

/* What is not freed or destroyed, on all devices. */
uint64_t cuemu_blocks(void);        /* allocations of device memory */
uint64_t cuemu_pinned_blocks(void); /* allocations of pinned host memory */
uint64_t cuemu_streams(void);       /* default streams do not count */
/* Open ones of the context of a device that were made with this priority. */
uint64_t cuemu_streams_of(int device, int priority);
uint64_t cuemu_events(void);

/* Holds up a stream from here on until released. Returns 0 if there is no such stream, and in null mode. */
uint64_t cuemu_hold(int device, CUstream stream);
/* 0, or -1 if there is no such hold. */
int32_t cuemu_release(uint64_t hold);
/* From now on this device fails with this error, as after a sticky error of CUDA: calls return it, queued work is
 * discarded, and waits end. 0 repairs it. */
void cuemu_break(int device, CUresult error);
/* The error of a broken device, else 0. */
CUresult cuemu_broken(int device);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop

#endif
