// Collectives of Debian's libgloo, one engine op each, with the tags that PyTorch's process group would use.
#include <gloo/allreduce.h>
#include <gloo/barrier.h>
#include <gloo/broadcast.h>
#include <gloo/config.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "engine/transport.h"
#include "mesh.h"
#include "reduction.h"

#if __has_include(<gloo/common/store.h>)
#error "this shim is for libgloo of 2022 (Debian 12); newer generations are not supported yet"
#endif

namespace c10d {

namespace gloo_shim {
namespace {

constexpr unsigned kDefaultThreads = 2;

class GlooTransport final : public Transport {
 public:
  explicit GlooTransport(const Config& config)
      : config_(config),
        listen_on_(config.options.get("host", "127.0.0.1"), 0),
        threads_(read_threads(config.options)) {}

  ~GlooTransport() override { close(); }

  void connect(Exchange& exchange) override {
    tcp::attr attributes;
    attributes.hostname = config_.options.get("host", "127.0.0.1");
    auto device = std::dynamic_pointer_cast<tcp::Device>(tcp::CreateDevice(attributes));
    if (!device) throw Failure(C10D_ERR_BACKEND, "libgloo made no TCP device");
    auto peers = connect_all(config_, listen_on_, exchange, cancellation_, "0");
    auto mesh = std::make_shared<Mesh>(config_.rank, config_.world_size, device, std::move(peers), losses_);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (cancellation_.cancelled()) throw Failure(C10D_ERR_ABORTED, "connecting was cancelled");
    mesh_ = std::move(mesh);
  }

  void check(const Op& op) const override {
    const auto& request = op.request;
    switch (request.opcode) {
      case C10D_OP_BARRIER:
        return;
      case C10D_OP_ALLREDUCE:
      case C10D_OP_ALLREDUCE_COALESCED:
        if (find_reduction(request.dtype, request.reduce_op) == nullptr || request.reduce_op == C10D_PREMUL_SUM) {
          throw Failure(C10D_ERR_UNSUPPORTED, "gloo has no such reduction for this dtype");
        }
        break;
      case C10D_OP_BROADCAST:
        if (request.peer < 0 || request.peer >= config_.world_size) throw Failure(C10D_ERR_INVALID, "no such root");
        break;
      default:
        throw Failure(C10D_ERR_UNSUPPORTED, "gloo shim does not implement this op");
    }
    const size_t size = element_size(request.dtype);
    if (size == 0) throw Failure(C10D_ERR_UNSUPPORTED, "unknown dtype");
    if (op.outputs.empty()) throw Failure(C10D_ERR_INVALID, "no output buffer");
    for (const auto& buffer : op.outputs) {
      if (buffer.bytes % size != 0) throw Failure(C10D_ERR_INVALID, "buffer is no whole number of elements");
    }
  }

  void number(Op& op) noexcept override { op.ticket = next_tag_++; }

  void run_blocking(Op& op) override {
    try {
      switch (op.request.opcode) {
        case C10D_OP_ALLREDUCE:
          return all_reduce(op, op.output(), op.outputs[0].bytes);
        case C10D_OP_ALLREDUCE_COALESCED:
          return all_reduce_coalesced(op);
        case C10D_OP_BROADCAST:
          return broadcast(op);
        default:
          return barrier(op);
      }
    } catch (const gloo::IoException& error) {
      throw losses_.explain(error.what());
    }
  }

  unsigned max_concurrency() const override { return threads_; }

  void abort(const Failure& cause) noexcept override {
    std::shared_ptr<Mesh> mesh;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      cancellation_.cancel();
      mesh = mesh_;
    }
    try {
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
  static unsigned read_threads(const Options& options) {
    const int threads = std::atoi(options.get("threads", std::to_string(kDefaultThreads)).c_str());
    if (threads < 1 || threads > 64) throw Failure(C10D_ERR_INVALID, "option threads must be in 1..64");
    return static_cast<unsigned>(threads);
  }

  /// Gloo only looks at the size of its element type, and at the function it is given.
  template <class Body>
  static void with_element(uint32_t dtype, void* data, size_t bytes, Body body) {
    switch (element_size(dtype)) {
      case 1:
        return body(static_cast<uint8_t*>(data), bytes);
      case 2:
        return body(static_cast<uint16_t*>(data), bytes / 2);
      case 4:
        return body(static_cast<uint32_t*>(data), bytes / 4);
      case 8:
        return body(static_cast<uint64_t*>(data), bytes / 8);
      default:
        return body(static_cast<Sixteen*>(data), bytes / sizeof(Sixteen));
    }
  }
  struct Sixteen {
    uint64_t half[2];
  };

  void all_reduce(const Op& op, void* data, size_t bytes) {
    const auto& request = op.request;
    gloo::AllreduceOptions options(mesh_);
    with_element(request.dtype, data, bytes, [&](auto* elements, size_t n) { options.setOutput(elements, n); });
    options.setReduceFunction(find_reduction(request.dtype, request.reduce_op));
    options.setTag(static_cast<uint32_t>(op.ticket));
    gloo::allreduce(options);
    if (request.reduce_op == C10D_AVG) {
      divide(data, bytes / element_size(request.dtype), request.dtype, config_.world_size);
    }
  }

  /// One all-reduce over the concatenation, as PyTorch does it.
  void all_reduce_coalesced(const Op& op) {
    size_t bytes = 0;
    for (const auto& buffer : op.outputs) bytes += buffer.bytes;
    const std::unique_ptr<char[]> flat(new char[std::max<size_t>(bytes, 1)]);
    char* at = flat.get();
    for (size_t i = 0; i < op.outputs.size(); at += op.outputs[i++].bytes) {
      if (op.outputs[i].bytes > 0) std::memcpy(at, op.output(i), op.outputs[i].bytes);
    }
    all_reduce(op, flat.get(), bytes);
    at = flat.get();
    for (size_t i = 0; i < op.outputs.size(); at += op.outputs[i++].bytes) {
      if (op.outputs[i].bytes > 0) std::memcpy(op.output(i), at, op.outputs[i].bytes);
    }
  }

  void broadcast(const Op& op) {
    gloo::BroadcastOptions options(mesh_);
    options.setOutput(static_cast<uint8_t*>(op.output()), op.outputs[0].bytes);
    options.setRoot(op.request.peer);
    options.setTag(static_cast<uint32_t>(op.ticket));
    gloo::broadcast(options);
  }

  void barrier(const Op& op) {
    gloo::BarrierOptions options(mesh_);
    options.setTag(static_cast<uint32_t>(op.ticket));
    gloo::barrier(options);
  }

  const Config config_;
  const SocketAddress listen_on_;
  const unsigned threads_;
  Cancellation cancellation_;
  LossRecord losses_;
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
