// What links the ranks of one group on software devices: threads of one process, or one thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "engine/transport.h"
#include "software_device/flight.h"

namespace c10d::softdev {

/// One mutex guards all fabrics. The mutex of the machine is taken behind it, that of a group never.
class Fabric {
 public:
  explicit Fabric(int32_t world_size) : world_size_(world_size) {}

  /// Makes the ranks of a group meet: rank 0 makes the fabric, the others find it by what it leaves in the store.
  /// interrupt() makes it throw. Throws Failure.
  static std::shared_ptr<Fabric> connect(Exchange& exchange, const Config& config, const bool& interrupted);
  /// The same among the ranks of this fabric that come with the same color; `turn` counts the splits of a rank. All
  /// come, whatever their color: a negative one gives no fabric.
  std::shared_ptr<Fabric> split(uint64_t turn, int32_t rank, int32_t color, const Config& config,
                                const bool& interrupted);
  static void interrupt(bool& interrupted);

  /// The device has got to this op. Its moment `met` comes when all that it takes is there, or with a failure.
  void arrive(const FlightPtr& flight);
  /// It cannot be carried out: the device has refused it.
  static void refuse(Flight& flight, const Failure& failure);
  /// This rank takes part no more. The others fail where they wait for it, and at once if it has failed.
  void leave(int32_t rank, const std::optional<Failure>& cause);
  /// Notifies this rank of failures of others; of none any more with nullptr.
  void listen(int32_t rank, Exchange* exchange);
  /// A rank that this op waits for, or -1.
  int32_t awaited_by(const Flight& flight) const;

 private:
  /// One collective: what each rank has brought, once the device has got to it there.
  struct Round {
    std::map<int32_t, FlightPtr> ranks;
    std::optional<c10d_mismatch> mismatch;
    int32_t first = -1;  // the two ranks of the mismatch
    int32_t second = -1;
    std::string text;
  };
  /// Sender, receiver and tag.
  using Lane = std::tuple<int32_t, int32_t, uint32_t>;
  struct Split {
    std::map<int32_t, std::pair<int32_t, int32_t>> places;  // color and rank there, by rank here
    std::map<int32_t, std::shared_ptr<Fabric>> made;        // by color
  };

  void join(std::unique_lock<std::mutex>& lock, const Config& config, const bool& interrupted);
  void arrive_at_round(const FlightPtr& flight);
  void post(const FlightPtr& flight);
  void want(const FlightPtr& flight);
  void deliver(Flight& sender, Flight& receiver) const;
  int32_t lost_rank(const Flight& flight) const;
  Failure loss_of(int32_t rank) const;

  const int32_t world_size_;
  std::map<uint64_t, Round> rounds_;
  std::map<Lane, std::deque<FlightPtr>> sent_;
  std::map<Lane, std::deque<FlightPtr>> wanted_;
  std::map<int32_t, std::string> left_;
  std::set<int32_t> joined_;
  std::map<uint64_t, Split> splits_;

  std::mutex exchanges_mutex_;
  std::map<int32_t, Exchange*> exchanges_;
};

}  // namespace c10d::softdev
