#include <doctest/doctest.h>

#include "software_device/memory.h"
#include "software_device/softdev.h"
#include "test_device.h"

namespace c10d::test::test_device {

namespace {

constexpr double kPatienceMs = 20'000;

}  // namespace

uint8_t poison() { return softdev::kPoison; }

void set_delays(uint64_t seed, uint32_t longest_us) { softdev_set_seed(seed, longest_us); }

uint64_t allocate(int32_t device, uint64_t bytes) { return softdev_malloc(device, bytes); }

void free(uint64_t address) { softdev_free(address); }

uint64_t make_stream(int32_t device) { return softdev_stream_create(device); }

void close_stream(int32_t device, uint64_t stream) { softdev_stream_destroy(device, stream); }

void synchronize(int32_t device, uint64_t stream) {
  REQUIRE(softdev_stream_synchronize(device, stream, kPatienceMs) == 0);
}

void copy_in(int32_t device, uint64_t stream, uint64_t to, const void* from, uint64_t bytes) {
  REQUIRE(softdev_copy_in(device, stream, to, from, bytes) == 0);
}

void copy_out(int32_t device, uint64_t stream, void* to, uint64_t from, uint64_t bytes) {
  REQUIRE(softdev_copy_out(device, stream, to, from, bytes) == 0);
}

void copy(int32_t device, uint64_t stream, uint64_t to, uint64_t from, uint64_t bytes) {
  REQUIRE(softdev_copy(device, stream, to, from, bytes) == 0);
}

uint64_t record(int32_t device, uint64_t stream) {
  const uint64_t event = softdev_event_create();
  REQUIRE(softdev_event_record(event, device, stream) == 0);
  return event;
}

void await(int32_t device, uint64_t stream, uint64_t event) {
  REQUIRE(softdev_stream_wait_event(device, stream, event) == 0);
}

bool is_complete(uint64_t event) { return softdev_event_query(event) == 1; }

void close_event(uint64_t event) { softdev_event_destroy(event); }

uint64_t hold(int32_t device, uint64_t stream) { return softdev_hold(device, stream); }

void release(uint64_t hold) { softdev_release(hold); }

uint64_t faults() { return softdev_faults(); }

}  // namespace c10d::test::test_device
