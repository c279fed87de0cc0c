// A group of Debian's libgloo as a transport of the engine, with the tags that PyTorch's process group would use.
#include <gloo/common/error.h>
#include <gloo/config.h>

#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>

#include "collectives.h"
#include "engine/transport.h"
#include "mesh.h"
#include "monitored_barrier.h"

#if __has_include(<gloo/common/store.h>)
#error "this shim is for libgloo of 2022 (Debian 12); newer generations are not supported yet"
#endif

namespace c10d {

namespace gloo_shim {
namespace {

constexpr unsigned kDefaultThreads = 2;
constexpr const char* kLoopback = "127.0.0.1";

class GlooTransport final : public Transport {
 public:
  explicit GlooTransport(const Config& config)
      : config_(config),
        listen_on_(config.options.get("host", kLoopback), 0),
        threads_(read_threads(config.options)),
        messages_(config.rank, config.world_size, losses_) {}

  ~GlooTransport() override { close(); }

  void connect(Exchange& exchange) override {
    const auto device = make_device(config_.options.get("host", kLoopback));
    losses_.watch([&exchange](const Failure& cause) { exchange.lost(cause); });
    auto peers = connect_all(config_, listen_on_, exchange, cancellation_, "0");
    auto mesh = std::make_shared<Mesh>(config_.rank, config_.world_size, device, std::move(peers), losses_,
                                       messages_.doorbell());
    const std::lock_guard<std::mutex> lock(mutex_);
    if (cancellation_.cancelled()) throw Failure(C10D_ERR_ABORTED, "connecting was cancelled");
    mesh_ = std::move(mesh);
  }

  void check(const Op& op) const override {
    if (op.point_to_point()) {
      Messages::check(op, config_.rank, config_.world_size);
    } else {
      check_collective(op, config_.rank, config_.world_size);
    }
  }

  void number(Op& op) noexcept override {
    if (op.point_to_point()) return;
    op.ticket = next_tag_;
    next_tag_ += tags_of(op);
    if ((op.request.flags & C10D_FLAG_MONITORED) != 0 && config_.rank == 0) give_grace(op);
  }

  Start start(Op& op) override {
    if (!op.point_to_point()) return Start::blocking;
    try {
      return messages_.start(op, mesh_->transport()) ? Start::done : Start::pending;
    } catch (const gloo::IoException& error) {
      throw explain(error.what(), false);
    }
  }

  void progress(std::vector<Op*>& ended) override {
    messages_.progress(ended, [this](const char* what) { return explain(what, false); });
  }

  int event_fd() override { return messages_.doorbell().fd(); }

  void run_blocking(Op& op) override {
    try {
      run_collective(op, mesh_);
    } catch (const gloo::IoException& error) {
      throw explain(error.what(), true);
    }
  }

  unsigned max_concurrency() const override { return threads_; }

  int awaited_peer() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return mesh_ ? mesh_->awaited_rank() : -1;
  }

  void abort(const Failure& cause) noexcept override {
    std::shared_ptr<Mesh> mesh;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      cancellation_.cancel();
      mesh = mesh_;
    }
    try {
      messages_.abort(cause);
      if (mesh) mesh->abort(cause.text());
    } catch (...) {  // Nothing left to wake.
    }
  }

  void close() noexcept override {
    std::shared_ptr<Mesh> mesh;
    const std::lock_guard<std::mutex> lock(mutex_);
    mesh.swap(mesh_);
  }

 private:
  Failure explain(const char* what, bool collective) const {
    mesh_->settle();
    return losses_.explain(what, collective);
  }

  static std::shared_ptr<tcp::Device> make_device(const std::string& host) {
    tcp::attr attributes;
    attributes.hostname = host;
    try {
      auto device = std::dynamic_pointer_cast<tcp::Device>(tcp::CreateDevice(attributes));
      if (device) return device;
    } catch (const std::exception&) {  // Gloo only says that none of its attempts to bind went well.
    }
    throw Failure(C10D_ERR_INVALID, "cannot listen on " + host + ": is it an address of this machine?");
  }

  static unsigned read_threads(const Options& options) {
    const int threads = std::atoi(options.get("threads", std::to_string(kDefaultThreads)).c_str());
    if (threads < 1 || threads > 64) throw Failure(C10D_ERR_INVALID, "option threads must be in 1..64");
    return static_cast<unsigned>(threads);
  }

  const Config config_;
  const SocketAddress listen_on_;
  const unsigned threads_;
  Cancellation cancellation_;
  LossRecord losses_;
  Messages messages_;
  std::mutex mutex_;
  std::shared_ptr<Mesh> mesh_;
  uint32_t next_tag_ = 0;
};

}  // namespace
}  // namespace gloo_shim

std::unique_ptr<Transport> make_transport(const Config& config) {
  return std::make_unique<gloo_shim::GlooTransport>(config);
}

#define C10D_TEXT(x) #x
#define C10D_EXPANDED(x) C10D_TEXT(x)
const char* library_version() {
  return C10D_EXPANDED(GLOO_VERSION_MAJOR) "." C10D_EXPANDED(GLOO_VERSION_MINOR) "." C10D_EXPANDED(GLOO_VERSION_PATCH);
}

}  // namespace c10d
