// A device as tests use it, whatever it is: memory, streams, events. Each test program links one implementation. Calls
// that fail end the test.
#pragma once

#include <cstdint>

namespace c10d::test::test_device {

/// What memory holds until something is written to it, and outputs of an op until it has ended.
uint8_t poison();

/// From now on, delays before each piece of work are drawn with this seed, where the device can do that.
void set_delays(uint64_t seed, uint32_t longest_us);

/// 0 on error.
uint64_t allocate(int32_t device, uint64_t bytes);
void free(uint64_t address);

uint64_t make_stream(int32_t device);
void close_stream(int32_t device, uint64_t stream);
/// Blocks until what is in the stream is done.
void synchronize(int32_t device, uint64_t stream);

/// Puts a copy into a stream. copy_in copies the bytes at once; copy_out blocks until they have arrived.
void copy_in(int32_t device, uint64_t stream, uint64_t to, const void* from, uint64_t bytes);
void copy_out(int32_t device, uint64_t stream, void* to, uint64_t from, uint64_t bytes);
void copy(int32_t device, uint64_t stream, uint64_t to, uint64_t from, uint64_t bytes);

/// Records an event in a stream.
uint64_t record(int32_t device, uint64_t stream);
void await(int32_t device, uint64_t stream, uint64_t event);
bool is_complete(uint64_t event);
void close_event(uint64_t event);

/// What is put into the stream from now on waits until the hold is released.
uint64_t hold(int32_t device, uint64_t stream);
void release(uint64_t hold);

/// Number of pieces of work that failed, and of misuses, so far.
uint64_t faults();

}  // namespace c10d::test::test_device
