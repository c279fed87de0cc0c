// A transport over software devices: the ordering of a library such as NCCL, without the hardware. Each group has its
// own stream on its device. There, an op waits for what is in the stream that it was submitted with, then for the other
// ranks. Its outputs are poison from when the device reaches it until its result is written, some time later.
//
// Options
//   batches=0           ops of a submission are started one by one
//   messages=overtake   point-to-point ops start at submit, in their own streams; else in order with the collectives
//   concurrency=N       collectives in the stream at the same time (64)
//   fences=1            a barrier starts only after all ops before it have ended
//   services=0          no registered memory, no windows
//   split=0             no c10d_split
//   descriptor=0        no descriptor: the engine has to poll
//   mutate=NAME         leaves out one of the waits: see Mutation
#pragma once

#include <map>
#include <set>
#include <tuple>

#include "engine/transport.h"
#include "software_device/fabric.h"
#include "software_device/flight.h"

namespace c10d::softdev {

/// Bugs that a transport may have. Tests of stream order must find each of them.
enum class Mutation {
  none,
  /// Does not wait for the stream of an op.
  no_input_wait,
  /// Waits for what is in that stream when the op starts, not for what was in it at submit.
  late_input_wait,
  /// Waits for the default stream instead of that of the op.
  default_stream,
  /// synchronize() does nothing.
  no_output_wait,
  /// synchronize() makes the default stream wait instead of the given one.
  other_output_stream,
  /// synchronize() waits for what was in the group's stream before the op.
  short_output_wait,
  /// Ops end for the host as soon as they have started.
  no_end_wait,
  /// Ops of a group do not wait for each other.
  no_order,
};

class SoftwareTransport final : public Transport {
 public:
  /// Throws Failure.
  explicit SoftwareTransport(const Config& config);
  ~SoftwareTransport() override;

  Capabilities capabilities() const override;
  void connect(Exchange& exchange) override;
  void check(const Op& op) const override;
  void number(Op& op) noexcept override;
  Start start(Op& op) override;
  bool takes_batches() const override { return batches_; }
  void start_batch(const std::vector<Op*>& ops, std::vector<Start>& started) override;
  bool messages_overtake() const override { return overtakes_; }
  bool starts_when_kicked() const override { return true; }
  void progress(std::vector<Op*>& ended) override;
  int event_fd() override { return event_fd_; }
  bool fences(const Op& op) const override { return fences_ && op.request.opcode == C10D_OP_BARRIER; }
  unsigned max_concurrency() const override { return concurrency_; }
  bool has_streams() const override { return true; }
  void synchronize(Op& op, uint64_t stream) override;
  bool can_split() const override { return splits_; }
  std::shared_ptr<Transport> make_split(const Config& config, int32_t color) override;
  uint64_t window_address(uint64_t address, int32_t rank) override;
  int awaited_peer() override;
  void abort(const Failure& cause) noexcept override;
  void close() noexcept override;

 private:
  struct Ended {
    Op* op;
    std::optional<Failure> failure;
    int32_t source;
    Clock::time_point started;
    Clock::time_point finished;
  };
  struct Parent {
    std::shared_ptr<Fabric> fabric;
    uint64_t turn;
    int32_t rank;
    int32_t color;
  };

  StreamPtr lane_of(const Op& op);
  void launch(const std::vector<Op*>& ops);
  void launch_in(Stream& stream, const std::vector<Op*>& ops);
  FlightPtr flight_of(Op& op);
  void begin(const FlightPtr& flight);
  void end(Flight& flight);
  void serve(const Flight& flight);
  void announce(uint64_t ticket, const Flight& flight);
  void release_ops();
  void signal() const;

  const Config config_;
  const Mutation mutation_;
  const bool batches_;
  const bool overtakes_;
  const bool fences_;
  const bool services_;
  const bool splits_;
  const unsigned concurrency_;
  const StreamPtr stream_;
  std::optional<Parent> parent_;
  std::shared_ptr<Fabric> fabric_;
  bool interrupted_ = false;  // the mutex of the fabrics guards it
  uint64_t next_turn_ = 0;
  uint64_t next_split_ = 0;
  int event_fd_ = -1;

  mutable std::mutex mutex_;
  uint64_t next_ticket_ = 0;
  std::map<uint64_t, EventPtr> stream_events_;  // of ops that have not started, by ticket
  std::map<uint64_t, std::pair<Op*, FlightPtr>> flights_;
  std::map<std::tuple<uint32_t, int32_t, uint32_t>, StreamPtr> lanes_;  // by opcode, peer and tag
  std::vector<Ended> ended_;
  std::optional<Failure> aborted_;
  std::set<uint64_t> registered_;
  std::map<uint64_t, std::vector<uint64_t>> windows_;
};

/// From now on, probe() fails with this reason; if it is empty, no longer.
void set_unavailable(const std::string& reason);

}  // namespace c10d::softdev
