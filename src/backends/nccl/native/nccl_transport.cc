#include "nccl_transport.h"

#include <utility>

#include "op_check.h"

namespace c10d {

namespace nccl_shim {

NcclTransport::NcclTransport(const Config& config)
    : config_(config),
      mutation_(config.options),
      library_(library()),
      progress_limit_(integer_option(config.options, "nonblocking-timeout", 0)),
      order_(LaunchOrder::of(config.device.index)),
      communicator_(config, mutation_),
      services_(communicator_),
      peers_(config_, PeerWatch::Audience::all) {
  if (config.device.type != C10D_DEVICE_CUDA) {
    throw Failure(C10D_ERR_INVALID, "NCCL needs a CUDA device, got " + text_of(config.device));
  }
}

/// No thread of the group is left. What is still in the stream has ended.
NcclTransport::~NcclTransport() {
  // One that was never connected.
  if (parent_) parent_->transport->communicator_.give_back();
  if (device_ == nullptr) return;
  const ContextScope scope(device_->context);
  communicator_.abort();
  device_.reset();
}

Capabilities NcclTransport::capabilities() const { return capabilities_of(library_); }

void NcclTransport::connect(Exchange& exchange) {
  const bool is_urgent = integer_option(config_.options, "high-priority", 0) != 0 && !mutation_.is("plain-priority");
  device_ = std::make_unique<GroupDevice>(config_.device.index, is_urgent);
  // For all calls of this thread, which belongs to the group.
  require(library_.cuda.ctx_set_current(device_->context.get()), "cuCtxSetCurrent");
  const auto failure = attempt([&] {
    if (parent_) {
      communicator_.connect_split(config_, parent_->transport->communicator_, parent_->color);
    } else {
      communicator_.connect(config_, exchange);
    }
    watch_peers(exchange);
  });
  parent_.reset();
  if (!failure) return;
  communicator_.abort();
  throw Failure(*failure);
}

std::shared_ptr<Transport> NcclTransport::make_split(const Config& config, int32_t color) {
  auto made = std::make_shared<NcclTransport>(config);
  if (!mutation_.is("unlent-split")) communicator_.lend(config.connect_deadline);
  made->parent_ = Parent{std::static_pointer_cast<NcclTransport>(shared_from_this()), color};
  return made;
}

void NcclTransport::abort(const Failure& cause) noexcept {
  {
    const std::lock_guard<std::mutex> lock(cause_mutex_);
    cause_ = cause;
  }
  aborted_.store(true, std::memory_order_release);
  communicator_.interrupt();
  cancellation_.cancel();
  peers_.fail(cause);
  order_.leave();
  if (mutation_.is("abort-at-once")) communicator_.abort();
}

void NcclTransport::close() noexcept {
  peers_.leave(collectives_);
  communicator_.finalize();
}

// ---- on the host's thread --------------------------------------------------------------------------------------

void NcclTransport::check(const Op& op) const {
  if (!communicator_) throw Failure(C10D_ERR_INVALID, "this rank is not in the group");
  check_op(op, library_.version);
  device_->memory_check.require(op);
}

/// The op waits for what is in its stream now, rather than when it starts.
void NcclTransport::number(Op& op) noexcept {
  if (op.number > 0) collectives_ = op.number;
  const auto& cuda = library_.cuda;
  const auto failure = attempt([&] {
    const std::lock_guard<std::mutex> lock(device_->flights.mutex());
    Flight& flight = device_->flights.add(op);
    flight.turn = order_.take();
    if ((op.request.flags & C10D_FLAG_STREAM) == 0 || mutation_.is("no-input-wait")) return;
    const uint64_t handle = mutation_.is("default-stream") ? 0 : op.request.stream;
    const ContextScope scope(device_->context);
    if (flight.input == nullptr) flight.input_result = cuda.event_create(&flight.input, kCuEventDisableTiming);
    if (flight.input_result != CuResult::success) return;
    flight.input_result = cuda.event_record(flight.input, reinterpret_cast<CuStream>(handle));
    flight.has_input = flight.input_result == CuResult::success;
  });
  if (failure) op.ticket = 0;
}

bool NcclTransport::has_issued(const Op& op) {
  const std::lock_guard<std::mutex> lock(device_->flights.mutex());
  return op.ticket != 0 && device_->flights.of(op).end != nullptr;
}

void NcclTransport::synchronize(Op& op, uint64_t stream) {
  device_->memory_check.require_stream(stream);
  if (mutation_.is("no-output-wait")) return;
  const ContextScope scope(device_->context);
  const std::lock_guard<std::mutex> lock(device_->flights.mutex());
  const CuEvent end = device_->flights.of(op).end;
  // If the op has ended, there is nothing to wait for.
  if (end == nullptr) return;
  require(library_.cuda.stream_wait_event(reinterpret_cast<CuStream>(stream), end, 0), "cuStreamWaitEvent");
}

uint64_t NcclTransport::window_address(uint64_t address, int32_t rank) {
  return rank == config_.rank && services_.has_window(address) ? address : 0;
}

}  // namespace nccl_shim

std::shared_ptr<Transport> make_transport(const Config& config) {
  return std::make_shared<nccl_shim::NcclTransport>(config);
}

std::string probe() { return "nccl " + nccl_shim::version_text(nccl_shim::library().version); }

}  // namespace c10d
