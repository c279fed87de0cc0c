// An NCCL communicator as a transport of the engine.
//
// Ops go into one stream of the group, in the order of their submission: the stream waits for an event that number()
// has recorded in the op's own stream, then come NCCL's calls, then the event that ends the op. One native thread calls
// NCCL. The host's thread only records events and makes streams wait for them.
//
// Options
//   id-key=KEY                   store key of the unique id ("0")
//   watch-key=KEY                store key whose value, once the communicator is made, is empty unless all ranks watch
//                                each other; begins the keys for that. Without it, ranks do not watch each other
//   host=IP                      where ranks of other hosts connect to this one to watch it (127.0.0.1)
//   high-priority=1              the stream has the highest priority
//   nonblocking-timeout=MS       how long NCCL may be in progress with one launch before the group fails (no limit)
//   blocking, cga-cluster-size, min-ctas, max-ctas, net-name, split-share, traffic-class, comm-name, collnet-enable,
//   cta-policy, shrink-share, nvls-ctas, n-channels-per-net-peer, nvlink-centric-sched, graph-usage-mode, num-rma-ctx,
//   max-p2p-peers, graph-stream-ordering
//                                fields of ncclConfig_t; blocking is 0 unless it is given
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "communicator.h"
#include "engine/transport.h"
#include "group_device.h"
#include "launch.h"
#include "launch_order.h"
#include "mutation.h"
#include "peers/peer_watch.h"
#include "services.h"

namespace c10d::nccl_shim {

class NcclTransport final : public Transport {
 public:
  /// Throws Failure.
  explicit NcclTransport(const Config& config);
  ~NcclTransport() override;

  Capabilities capabilities() const override;
  void connect(Exchange& exchange) override;
  void check(const Op& op) const override;
  void number(Op& op) noexcept override;
  Start start(Op& op) override;
  bool takes_batches() const override { return true; }
  void start_batch(const std::vector<Op*>& ops, std::vector<Start>& started) override;
  bool messages_overtake() const override { return false; }
  void progress(std::vector<Op*>& ended) override;
  bool advanced() const override { return advanced_; }
  int awaited_peer() override;
  bool fences(const Op&) const override { return false; }
  unsigned max_concurrency() const override { return kConcurrency; }
  bool has_streams() const override { return true; }
  bool has_issued(const Op& op) override;
  void synchronize(Op& op, uint64_t stream) override;
  bool can_split() const override { return true; }
  std::shared_ptr<Transport> make_split(const Config& config, int32_t color) override;
  uint64_t window_address(uint64_t address, int32_t rank) override;
  ThreadLevel thread_level() const override { return ThreadLevel::funneled; }
  std::chrono::milliseconds idle_interval() const override { return kIdleInterval; }
  void abort(const Failure& cause) noexcept override;
  void close() noexcept override;

 private:
  static constexpr unsigned kConcurrency = 512;
  static constexpr std::chrono::milliseconds kIdleInterval{500};
  /// How often to look for errors that no call reports.
  static constexpr std::chrono::milliseconds kErrorInterval{10};

  struct Parent {
    std::shared_ptr<NcclTransport> transport;
    int32_t color;
  };

  // In nccl_transport_issue.cc: the way of ops into the stream.
  void enqueue(const std::vector<Op*>& ops);
  void issue();
  /// Whether the launch is in the stream, or has failed.
  bool advance(Launch& launch);
  bool may_begin(const Launch& launch);
  void begin(Launch& launch);
  void wait_for_inputs(const Launch& launch);
  void call(Launch& launch);
  void finish(Launch& launch);
  void record_end(Launch& launch);
  void break_off(Launch& launch, const Failure& failure);
  void give_back_turns(const Launch& launch);
  Place place() const;

  // In nccl_transport_peers.cc.
  void watch_peers(Exchange& exchange);
  void check_peers(Clock::time_point now);
  /// The loss or failure of another rank that caused an error of NCCL's, if that is known; otherwise the error.
  Failure reason_of(const Failure& failure);

  // In nccl_transport_end.cc: their end.
  void look_for_errors();
  void end_communicator();
  void collect(std::vector<Op*>& ended);
  /// Whether the launch has ended on the device.
  bool has_ended(Launch& launch);
  void end_ops(Launch& launch, std::vector<Op*>& ended);
  Failure cause();

  const Config config_;
  const Mutation mutation_;
  const Library& library_;
  const std::chrono::milliseconds progress_limit_;
  std::optional<Parent> parent_;
  LaunchOrder::Member order_;
  std::atomic<bool> aborted_{false};
  std::mutex cause_mutex_;
  std::optional<Failure> cause_;
  /// Made by connect().
  std::unique_ptr<GroupDevice> device_;
  Communicator communicator_;
  Services services_;
  Cancellation cancellation_;
  PeerWatch peers_;
  /// The first collective in flight; 0 if there is none.
  std::atomic<uint64_t> oldest_{0};
  /// The last collective that was submitted.
  std::atomic<uint64_t> collectives_{0};

  // Of the native thread.
  std::deque<std::unique_ptr<Launch>> launches_;
  size_t issued_ = 0;  // those in the stream, the first ones
  std::vector<std::unique_ptr<Launch>> spare_;
  std::vector<Op*> one_;
  Clock::time_point next_look_;
  bool watches_ = false;
  bool advanced_ = false;
};

}  // namespace c10d::nccl_shim
