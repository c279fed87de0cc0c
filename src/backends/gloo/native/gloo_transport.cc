// A group of libgloo as a transport of the engine, with the tags that PyTorch's process group would use.
#include <gloo/common/error.h>
#include <gloo/config.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include "collective_check.h"
#include "collectives.h"
#include "context/gloo_contexts.h"
#include "context/gloo_version.h"
#include "context/mismatch_message.h"
#include "device_listener.h"
#include "engine/transport.h"
#include "late_peers.h"
#include "mesh/barrier_limits.h"
#include "mesh/connections.h"
#include "mesh/direct.h"
#include "rendezvous.h"

namespace c10d {

namespace gloo_shim {
namespace {

constexpr unsigned kDefaultThreads = 2;
constexpr const char* kLoopback = "127.0.0.1";
/// An op's ticket is its tag and, above that, its turn on the direct connections if there are any.
constexpr unsigned kTurnShift = 32;
/// Set when begin_direct() left something to do.
constexpr uint64_t kBegun = uint64_t{1} << 63;
/// How long after one of the connections to a rank the other one may end.
constexpr std::chrono::milliseconds kOtherConnectionEnds{100};

class GlooTransport final : public Transport {
 public:
  explicit GlooTransport(const Config& config)
      : config_(config),
        hosts_(read_hosts(config.options)),
        threads_(read_threads(config.options)),
        messages_(config.rank, config.world_size, losses_) {}

  ~GlooTransport() override { close(); }

  void connect(Exchange& exchange) override {
    losses_.watch([&exchange](const Failure& cause) { exchange.lost(cause); });
    std::vector<std::shared_ptr<GlooContext>> contexts;
    std::shared_ptr<Connections> connections;
    std::vector<std::unique_ptr<LatePeers>> late;
    for (size_t i = 0; i < hosts_.size(); i++) {
      const auto device = make_device(hosts_[i]);
      PeerSockets& made = unfinished_.emplace_back();
      connect_all(config_, SocketAddress(hosts_[i], 0), exchange, cancellation_, std::to_string(i), made);
      auto context = std::make_shared<GlooContext>(config_.rank, config_.world_size, device, std::move(made.peers),
                                                   unfinished_.front().take_mismatches, losses_, messages_.doorbell());
      if (i == 0) foreign_ = made.foreign;
      if (!made.direct.empty()) {
        connections = std::make_shared<Connections>(config_.rank, std::move(made.direct),
                                                    [this](const Failure& mismatch, bool apart) {
                                                      losses_.add_mismatch({mismatch, apart});
                                                      send_mismatch(*contexts_);
                                                    });
      }
      if (!made.late.empty()) {
        late.push_back(std::make_unique<LatePeers>(std::move(made.listener), std::move(made.late), context, exchange));
      }
      contexts.push_back(std::move(context));
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    if (cancellation_.cancelled()) throw Failure(C10D_ERR_ABORTED, "connecting was cancelled");
    contexts_ = std::make_shared<GlooContexts>(std::move(contexts));
    connections_ = std::move(connections);
    late_ = std::move(late);
    unfinished_.clear();
  }

  void check(const Op& op) const override {
    if (!op.point_to_point()) {
      check_collective(op);
      if (const char* limit = foreign_ >= 0 ? limit_of_pytorch(op) : nullptr) {
        throw Failure(C10D_ERR_UNSUPPORTED, "rank " + std::to_string(foreign_) + " is PyTorch's, whose Gloo takes " +
                                                limit + ", or make a group of the Bun ranks");
      }
    }
  }

  void number(Op& op) noexcept override {
    if (op.point_to_point()) return;
    const uint32_t tags = tags_of(op);
    // An op without a tag of its own uses that of the op before it. The host submits nothing between the two.
    op.ticket = tags == 0 ? next_tag_ - 1 : next_tag_;
    next_tag_ += tags;
    if ((op.request.flags & C10D_FLAG_MONITORED) != 0 && config_.rank == 0) give_grace(op);
    if (!connections_) return;
    op.ticket |= uint64_t{next_turn_} << kTurnShift;
    next_turn_ = Connections::turn_after(next_turn_);
  }

  Start start(Op& op) override {
    if (!op.point_to_point()) return begin_direct(op) ? Start::done : Start::blocking;
    try {
      return messages_.start(op, contexts_->of(op.request.tag)->transport()) ? Start::done : Start::pending;
    } catch (const gloo::IoException& error) {
      throw explain(error.what(), false);
    }
  }

  bool starts_when_kicked() const override { return connections_ != nullptr; }

  void progress(std::vector<Op*>& ended) override {
    messages_.progress(ended, [this](const char* what) { return explain(what, false); });
  }

  int event_fd() override { return messages_.doorbell().fd(); }

  void run_blocking(Op& op) override {
    try {
      const uint32_t turn = turn_of(op);
      if (turn != 0) run_direct_op(op, turn);
      if (turn == 0 || !is_direct(op)) run_collective(op, *contexts_);
    } catch (const gloo::IoException& error) {
      throw explain(error.what(), true);
    } catch (const ConnectionLost& lost) {
      throw explain(lost);
    } catch (const Failure& failure) {
      throw first_of(failure);
    }
  }

  bool run_until(Op& op, Clock::time_point deadline) override {
    // Gloo carries out the ops that are not direct, and cannot be interrupted.
    if ((op.ticket & kBegun) == 0 || !is_direct(op)) return false;
    auto begun = std::move(begun_);
    try {
      if (begun->finish_by(deadline)) return true;
    } catch (const ConnectionLost& lost) {
      throw explain(lost);
    } catch (const Failure& failure) {
      throw first_of(failure);
    }
    begun_ = std::move(begun);
    return false;
  }

  unsigned max_concurrency() const override { return threads_; }

  int awaited_peer() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (connections_ && connections_->awaited() >= 0) return connections_->awaited();
    return contexts_ ? contexts_->awaited_rank() : -1;
  }

  void abort(const Failure& cause) noexcept override {
    std::shared_ptr<GlooContexts> contexts;
    std::shared_ptr<Connections> connections;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      cancellation_.cancel();
      contexts = contexts_;
      connections = connections_;
    }
    if (connections) connections->abort();
    try {
      // Before the connections break. This rank may have received the mismatch in the same way.
      if (contexts) send_mismatch(*contexts);
      messages_.abort(cause);
      if (contexts) contexts->abort(cause.text());
    } catch (...) {  // Nothing left to wake.
    }
  }

  void close() noexcept override {
    std::shared_ptr<GlooContexts> contexts;
    std::shared_ptr<Connections> connections;
    std::vector<std::unique_ptr<LatePeers>> late;
    const std::lock_guard<std::mutex> lock(mutex_);
    begun_.reset();
    contexts.swap(contexts_);
    connections.swap(connections_);
    late.swap(late_);
  }

 private:
  Failure explain(const char* what, bool collective) const {
    contexts_->settle();
    return losses_.explain(what, collective);
  }

  Failure explain(const ConnectionLost& lost) const {
    // What that rank sent before may be on its other connection, which ends at the same time.
    losses_.await(lost.rank, Clock::now() + kOtherConnectionEnds);
    contexts_->settle();
    return losses_.explain_direct(lost.rank, lost.what);
  }

  /// For a mismatch of calls, the first one that is known by now.
  Failure first_of(const Failure& failure) const {
    if (failure.status() != C10D_ERR_DESYNC || failure.collective() == 0) return failure;
    const auto first = losses_.mismatch();
    return first ? first->failure : failure;
  }

  /// Reports a mismatch, if there is one, to all Bun ranks. Those that have not compared their calls with the different
  /// one would take the broken connections for the cause.
  void send_mismatch(const GlooContexts& contexts) {
    if (const auto mismatch = losses_.mismatch())
      contexts.send_mismatch(encode_mismatch(mismatch->failure, mismatch->apart));
  }

  static uint32_t turn_of(const Op& op) { return static_cast<uint32_t>((op.ticket & ~kBegun) >> kTurnShift); }

  /// Carries out a direct op. For others, only compares what the ranks call.
  void run_direct_op(const Op& op, uint32_t turn) {
    if ((op.ticket & kBegun) == 0) return run_direct(op, turn, *connections_);
    const auto begun = std::move(begun_);
    begun->finish();
  }

  /// If it is the op's turn, sends what can be sent at once. Returns whether the op has ended.
  bool begin_direct(Op& op) {
    const uint32_t turn = turn_of(op);
    if (turn == 0 || !connections_->has_turn(turn)) return false;
    try {
      auto begun = std::make_unique<DirectCollective>(op, *connections_);
      if (begun->begin() && is_direct(op)) return true;
      op.ticket |= kBegun;
      begun_ = std::move(begun);
      return false;
    } catch (const ConnectionLost& lost) {
      throw explain(lost);
    } catch (const Failure& failure) {
      throw first_of(failure);
    }
  }

  /// What a PyTorch rank would refuse in a collective without notifying the others, or nullptr.
  static const char* limit_of_pytorch(const Op& op) {
    switch (op.request.dtype) {
      case C10D_INT16:
      case C10D_UINT16:
      case C10D_UINT32:
      case C10D_UINT64:
        return "no int16, uint16, uint32 and uint64 in collectives: convert";
      case C10D_FLOAT8_E5M2:
      case C10D_FLOAT8_E4M3FN:
        return "no float8_e5m2 and float8_e4m3fn in collectives: move their bytes as uint8";
      case C10D_COMPLEX64:
      case C10D_COMPLEX128:
        if (op.request.opcode == C10D_OP_GATHER) return "no complex numbers in gather: use allGather";
        break;
      default:
        break;
    }
    if (op.request.opcode != C10D_OP_ALLTOALL || (same_size(op.inputs) && same_size(op.outputs))) return nullptr;
    return "only lists of equally large tensors in allToAll: use allToAllSingle with splits";
  }

  static bool same_size(const std::vector<c10d_buffer>& buffers) {
    return std::all_of(buffers.begin(), buffers.end(),
                       [&](const auto& buffer) { return buffer.bytes == buffers.front().bytes; });
  }

  static std::shared_ptr<tcp::Device> make_device(const std::string& host) {
    tcp::attr attributes;
    attributes.hostname = host;
    try {
      auto device = std::dynamic_pointer_cast<tcp::Device>(tcp::CreateDevice(attributes));
      if (device) {
        close_listener(*device);
        return device;
      }
    } catch (const Failure&) {
      throw;
    } catch (const std::exception&) {  // Gloo only says that it could not bind.
    }
    throw cannot_listen(host);
  }

  static std::vector<std::string> read_hosts(const Options& options) {
    std::stringstream list(options.get("host", kLoopback));
    std::vector<std::string> hosts;
    for (std::string host; std::getline(list, host, ',');) hosts.push_back(host);
    if (hosts.empty()) throw Failure(C10D_ERR_INVALID, "option host names no address");
    return hosts;
  }

  static unsigned read_threads(const Options& options) {
    const int threads = std::atoi(options.get("threads", std::to_string(kDefaultThreads)).c_str());
    if (threads < 1 || threads > 64) throw Failure(C10D_ERR_INVALID, "option threads must be in 1..64");
    return static_cast<unsigned>(threads);
  }

  const Config config_;
  /// Addresses to listen on, one for each interface.
  const std::vector<std::string> hosts_;
  const unsigned threads_;
  Cancellation cancellation_;
  LossRecord losses_;
  Messages messages_;
  std::mutex mutex_;
  std::shared_ptr<GlooContexts> contexts_;
  /// Only if all ranks are Bun ranks.
  std::shared_ptr<Connections> connections_;
  int foreign_ = -1;
  std::vector<std::unique_ptr<LatePeers>> late_;
  /// What connect() has made so far. After a failure it stays open until the group is closed, when others can know the
  /// reason.
  std::vector<PeerSockets> unfinished_;
  /// The op whose turn it is, between start() and run_blocking().
  std::unique_ptr<DirectCollective> begun_;
  uint32_t next_tag_ = 0;
  uint32_t next_turn_ = Connections::kFirstTurn;
};

}  // namespace
}  // namespace gloo_shim

std::shared_ptr<Transport> make_transport(const Config& config) {
  return std::make_shared<gloo_shim::GlooTransport>(config);
}

#define C10D_TEXT(x) #x
#define C10D_EXPANDED(x) C10D_TEXT(x)
std::string probe() {
  return C10D_EXPANDED(GLOO_VERSION_MAJOR) "." C10D_EXPANDED(GLOO_VERSION_MINOR) "." C10D_EXPANDED(
      GLOO_VERSION_PATCH) " of " C10D_EXPANDED(C10D_GLOO_GENERATION);
}

}  // namespace c10d
