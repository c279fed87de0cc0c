// The ranks of a group on the devices of a test, all driven by one thread: rank 0 is on cuda:1, rank 1 on cuda:2, and so
// on.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "c10d.h"
#include "failure_view.h"
#include "test_device.h"

namespace c10d::test {

constexpr double kNever = 0;  // no limit, in a record
constexpr uint64_t kNoStream = UINT64_MAX;

/// Memory of a device, freed at the end.
class DeviceBuffer {
 public:
  DeviceBuffer(int32_t device, size_t floats);
  ~DeviceBuffer();
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  uint64_t address() const { return address_; }
  uint64_t bytes() const { return floats_ * sizeof(float); }
  int32_t device() const { return device_; }
  /// Puts numbers there, in a stream.
  void write(uint64_t stream, const std::vector<float>& numbers) const;
  void write(uint64_t stream, float number) const { write(stream, std::vector<float>(floats_, number)); }
  /// What a stream of the device sees there; blocks.
  std::vector<float> read(uint64_t stream) const;
  /// Whether it sees this number in all elements; whether it sees only poison.
  bool holds(uint64_t stream, float number) const { return read(stream) == std::vector<float>(floats_, number); }
  bool is_poison(uint64_t stream) const;

 private:
  const int32_t device_;
  const size_t floats_;
  const uint64_t address_;
};

/// A stream of a device, closed at the end.
class DeviceStream {
 public:
  explicit DeviceStream(int32_t device) : device_(device), handle_(test_device::make_stream(device)) {}
  ~DeviceStream() { test_device::close_stream(device_, handle_); }
  DeviceStream(const DeviceStream&) = delete;
  DeviceStream& operator=(const DeviceStream&) = delete;
  operator uint64_t() const { return handle_; }

 private:
  const int32_t device_;
  const uint64_t handle_;
};

/// Blocks a stream from here on until it is released, at the latest by the destructor.
class Hold {
 public:
  Hold(int32_t device, uint64_t stream) : hold_(test_device::hold(device, stream)) {}
  ~Hold() { release(); }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;
  void release() { test_device::release(hold_); }

 private:
  const uint64_t hold_;
};

/// Builds an op.
class DeviceOp {
 public:
  DeviceOp(c10d_opcode opcode, uint64_t stream = kNoStream);
  explicit DeviceOp(c10d_service service);
  DeviceOp& in(const DeviceBuffer& buffer);
  DeviceOp& out(const DeviceBuffer& buffer);
  DeviceOp& peer(int32_t rank);
  DeviceOp& tag(uint32_t tag);
  DeviceOp& limit(double ms);
  /// The record, with the tables of this object, on a device.
  c10d_op record(int32_t device) const;

 private:
  c10d_op op_{};
  std::vector<c10d_buffer> inputs_;
  std::vector<c10d_buffer> outputs_;
};

class DeviceRanks {
 public:
  using Settings = std::vector<std::string>;

  /// Returns when all ranks are connected.
  explicit DeviceRanks(int32_t world_size, const Settings& settings = {});
  /// The groups of a split, indexed by the rank in the parent.
  DeviceRanks(DeviceRanks& parent, const std::vector<int32_t>& colors);
  ~DeviceRanks();
  DeviceRanks(const DeviceRanks&) = delete;
  DeviceRanks& operator=(const DeviceRanks&) = delete;

  c10d_group* group(int32_t rank) const { return ranks_.at(static_cast<size_t>(rank)).group; }
  int32_t device(int32_t rank) const { return rank + 1; }
  int32_t size() const { return static_cast<int32_t>(ranks_.size()); }

  /// Id of the first op, or a negative status.
  int64_t submit(int32_t rank, const std::vector<DeviceOp>& ops) const;
  int64_t submit(int32_t rank, const DeviceOp& op) const { return submit(rank, std::vector<DeviceOp>{op}); }
  /// The same, and kicks it.
  int64_t run(int32_t rank, const DeviceOp& op) const;
  int32_t wait(int32_t rank, int64_t id, double timeout_ms = 20'000, c10d_event* result = nullptr) const {
    return c10d_wait(group(rank), static_cast<uint64_t>(id), timeout_ms, result, sizeof *result);
  }
  int32_t synchronize(int32_t rank, int64_t id, uint64_t stream, double timeout_ms = 20'000) const {
    return c10d_synchronize(group(rank), static_cast<uint64_t>(id), stream, timeout_ms);
  }
  /// The COMPLETE event of an op, without waiting for the op in c10d_wait.
  std::optional<c10d_event> completion(int32_t rank, int64_t id, int ms = 20'000);
  /// The READY event of each.
  c10d_event ready(int32_t rank) const { return ranks_.at(static_cast<size_t>(rank)).ready.value(); }
  /// Returns 0 when the group is freed.
  int32_t close(int32_t rank, double timeout_ms = 20'000);

 private:
  struct Rank {
    c10d_group* group = nullptr;
    int wake_fd = -1;
    std::optional<c10d_event> ready;
    std::vector<c10d_event> events;
    std::set<std::pair<uint64_t, std::string>> wanted;
  };

  void serve(Rank& rank);
  void answer();
  void connect();

  std::vector<Rank> ranks_;
  std::map<std::string, std::vector<char>> store_;
};

}  // namespace c10d::test
