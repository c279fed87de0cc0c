// Connects the ranks of one group on software devices: threads of one process, or one thread.
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

/// One mutex guards all fabrics. The mutex of the machine may be locked while it is held, that of a group never.
class Fabric {
 public:
  explicit Fabric(int32_t world_size) : world_size_(world_size) {}

  /// Connects the ranks of a group: rank 0 creates the fabric, the others find it by its id in the store. interrupt()
  /// makes it throw. Throws Failure.
  static std::shared_ptr<Fabric> connect(Exchange& exchange, const Config& config, const bool& interrupted);
  /// The same for the ranks of this fabric that have the same color; `turn` counts the splits of a rank. All ranks take
  /// part, whatever their color: with a negative one, returns nullptr.
  std::shared_ptr<Fabric> split(uint64_t turn, int32_t rank, int32_t color, const Config& config,
                                const bool& interrupted);
  static void interrupt(bool& interrupted);

  /// The device has reached this op. Its event `matched` completes when all ranks have arrived, or with a failure.
  void arrive(const FlightPtr& flight);
  /// Fails an op that the device refused.
  static void refuse(Flight& flight, const Failure& failure);
  /// This rank leaves the group. The others fail where they wait for it, or at once if it failed.
  void leave(int32_t rank, const std::optional<Failure>& cause);
  /// Notifies this rank of failures of others; with nullptr, no longer.
  void listen(int32_t rank, Exchange* exchange);
  /// A rank that this op waits for, or -1.
  int32_t awaited_by(const Flight& flight) const;

 private:
  /// One collective: the op of each rank whose device has reached it.
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
  void post_send(const FlightPtr& flight);
  void post_recv(const FlightPtr& flight);
  void deliver(Flight& sender, Flight& receiver) const;
  bool has_left(int32_t rank) const;
  int32_t lost_rank(const Flight& flight) const;
  Failure loss_of(int32_t rank) const;

  const int32_t world_size_;
  std::map<uint64_t, Round> rounds_;
  std::map<Lane, std::deque<FlightPtr>> posted_sends_;
  std::map<Lane, std::deque<FlightPtr>> posted_recvs_;
  std::vector<std::pair<int32_t, std::string>> left_;  // in the order in which they left, with the reason
  std::set<int32_t> joined_;
  std::map<uint64_t, Split> splits_;

  std::mutex exchanges_mutex_;
  std::map<int32_t, Exchange*> exchanges_;
};

}  // namespace c10d::softdev
