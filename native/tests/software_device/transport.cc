#include "software_device/transport.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "ops/dtype.h"
#include "software_device/memory.h"
#include "software_device/results.h"

namespace c10d {

namespace softdev {

namespace {

std::mutex unavailable_mutex;
std::string unavailable;

Mutation mutation_of(const std::string& name) {
  static const std::map<std::string, Mutation> mutations = {
      {"", Mutation::none},
      {"no-input-wait", Mutation::no_input_wait},
      {"late-input-wait", Mutation::late_input_wait},
      {"default-stream", Mutation::default_stream},
      {"no-output-wait", Mutation::no_output_wait},
      {"other-output-stream", Mutation::other_output_stream},
      {"short-output-wait", Mutation::short_output_wait},
      {"no-end-wait", Mutation::no_end_wait},
      {"no-order", Mutation::no_order},
  };
  const auto found = mutations.find(name);
  if (found == mutations.end()) throw Failure(C10D_ERR_INVALID, "no such mutation: " + name);
  return found->second;
}

constexpr uint64_t bit(uint32_t number) { return uint64_t{1} << number; }

/// All but those without a known peer (any source), and those that need host memory (sparse tensors).
constexpr uint64_t kOps = bit(C10D_OP_BROADCAST) | bit(C10D_OP_ALLREDUCE) | bit(C10D_OP_ALLREDUCE_COALESCED) |
                          bit(C10D_OP_REDUCE) | bit(C10D_OP_ALLGATHER) | bit(C10D_OP_ALLGATHER_BASE) |
                          bit(C10D_OP_ALLGATHER_COALESCED) | bit(C10D_OP_GATHER) | bit(C10D_OP_SCATTER) |
                          bit(C10D_OP_REDUCE_SCATTER) | bit(C10D_OP_ALLTOALL_BASE) | bit(C10D_OP_ALLTOALL) |
                          bit(C10D_OP_SEND) | bit(C10D_OP_RECV) | bit(C10D_OP_BARRIER) |
                          bit(C10D_OP_REDUCE_SCATTER_BASE) | bit(C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED);
constexpr uint64_t kServices = bit(C10D_SERVICE_REGISTER_MEMORY) | bit(C10D_SERVICE_DEREGISTER_MEMORY) |
                               bit(C10D_SERVICE_OPEN_WINDOW) | bit(C10D_SERVICE_CLOSE_WINDOW);

}  // namespace

void set_unavailable(const std::string& reason) {
  const std::lock_guard<std::mutex> lock(unavailable_mutex);
  unavailable = reason;
}

SoftwareTransport::SoftwareTransport(const Config& config)
    : config_(config),
      mutation_(mutation_of(config.options.get("mutate"))),
      batches_(config.options.get("batches") != "0"),
      overtakes_(config.options.get("messages") == "overtake"),
      fences_(config.options.get("fences") == "1"),
      services_(config.options.get("services") != "0"),
      splits_(config.options.get("split") != "0"),
      concurrency_(static_cast<unsigned>(std::stoul(config.options.get("concurrency", "64")))),
      stream_(Machine::the().make_stream(config.device.index)) {
  if (config.device.type != C10D_DEVICE_CUDA) {
    throw Failure(C10D_ERR_INVALID, "a software device is a cuda device, got " + text_of(config.device));
  }
  if (config.options.get("descriptor") == "0") return;
  event_fd_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (event_fd_ < 0) throw Failure::of_system("eventfd", errno);
}

SoftwareTransport::~SoftwareTransport() {
  if (fabric_ != nullptr) fabric_->listen(config_.rank, nullptr);
  release_ops();
  if (event_fd_ >= 0) ::close(event_fd_);
}

Capabilities SoftwareTransport::capabilities() const {
  Capabilities all;
  all.ops = kOps;
  if (services_) all.services = kServices;
  return all;
}

// ---- groups ----------------------------------------------------------------------------------------------------

void SoftwareTransport::connect(Exchange& exchange) {
  auto fabric = parent_ ? parent_->fabric->split(parent_->turn, parent_->rank, parent_->color, config_, interrupted_)
                        : Fabric::connect(exchange, config_, interrupted_);
  if (fabric == nullptr) return;
  fabric->listen(config_.rank, &exchange);
  std::optional<Failure> aborted;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    fabric_ = fabric;
    aborted = aborted_;
  }
  // abort() was called before the fabric existed.
  if (aborted) fabric->leave(config_.rank, aborted);
}

std::shared_ptr<Transport> SoftwareTransport::make_split(const Config& config, int32_t color) {
  auto made = std::make_shared<SoftwareTransport>(config);
  made->parent_ = Parent{fabric_, next_split_++, config_.rank, color};
  return made;
}

void SoftwareTransport::abort(const Failure& cause) noexcept {
  Fabric::interrupt(interrupted_);
  std::shared_ptr<Fabric> fabric;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    aborted_ = cause;
    fabric = fabric_;
  }
  if (fabric != nullptr) fabric->leave(config_.rank, cause);
  release_ops();
}

void SoftwareTransport::close() noexcept {
  if (fabric_ != nullptr) fabric_->leave(config_.rank, std::nullopt);
}

/// Removes all ops from the device.
void SoftwareTransport::release_ops() {
  Machine& machine = Machine::the();
  std::vector<StreamPtr> streams{stream_};
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [ticket, flight] : flights_) streams.push_back(flight.second->stream);
  }
  for (const auto& stream : streams) machine.clear(*stream);
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [ticket, flight] : flights_) {
    ended_.push_back({flight.first, aborted_, -1, {}, Clock::now()});
  }
  flights_.clear();
  stream_events_.clear();
  signal();
}

void SoftwareTransport::signal() const {
  const uint64_t one = 1;
  if (event_fd_ >= 0) [[maybe_unused]]
    auto written = ::write(event_fd_, &one, sizeof one);
}

int SoftwareTransport::awaited_peer() {
  FlightPtr first;
  std::shared_ptr<Fabric> fabric;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (flights_.empty() || fabric_ == nullptr) return -1;
    first = flights_.begin()->second.second;
    fabric = fabric_;
  }
  return fabric->awaited_by(*first);
}

// ---- submission ------------------------------------------------------------------------------------------------

void SoftwareTransport::check(const Op& op) const {
  if (fabric_ == nullptr) throw Failure(C10D_ERR_INVALID, "this rank is not in the group");
  const c10d_op& request = op.request;
  const bool known = is_service(request.opcode) || (kOps >> request.opcode & 1) != 0;
  if (!known || (request.flags & C10D_FLAG_MONITORED) != 0) {
    throw Failure(C10D_ERR_UNSUPPORTED, "a software device has no such op");
  }
  if (is_service(request.opcode) || request.opcode == C10D_OP_RECV) {
    if (op.outputs.size() != 1) throw Failure(C10D_ERR_INVALID, "takes one output");
  }
  if (request.opcode == C10D_OP_SEND && op.inputs.size() != 1) throw Failure(C10D_ERR_INVALID, "takes one input");
  if (is_reduction(request.opcode) && !can_reduce(request.dtype, request.reduce_op)) {
    throw Failure(C10D_ERR_UNSUPPORTED, "no such reduction of this dtype");
  }
  for (const auto* buffers : {&op.inputs, &op.outputs}) {
    for (const auto& buffer : *buffers) {
      if (Memory::all().holds(config_.device.index, buffer.address, buffer.bytes)) continue;
      throw Failure(C10D_ERR_INVALID,
                    text_of_range(buffer.address, buffer.bytes) + " are not in memory of " + text_of(config_.device));
    }
  }
  if ((request.flags & C10D_FLAG_STREAM) != 0 &&
      Machine::the().find_stream(config_.device.index, request.stream) == nullptr) {
    throw Failure(C10D_ERR_INVALID, "no such stream on " + text_of(config_.device));
  }
}

/// The op waits for what is in its stream now, rather than when it starts.
void SoftwareTransport::number(Op& op) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  op.ticket = ++next_ticket_;
  if ((op.request.flags & C10D_FLAG_STREAM) == 0 || aborted_) return;
  if (mutation_ == Mutation::no_input_wait || mutation_ == Mutation::late_input_wait) return;
  Machine& machine = Machine::the();
  const uint64_t handle = mutation_ == Mutation::default_stream ? 0 : op.request.stream;
  const auto stream = machine.find_stream(config_.device.index, handle);
  if (stream != nullptr) stream_events_[op.ticket] = machine.record(*stream);
}

Transport::Start SoftwareTransport::start(Op& op) {
  launch({&op});
  return Start::pending;
}

void SoftwareTransport::start_batch(const std::vector<Op*>& ops, std::vector<Start>& started) {
  (void)started;
  launch(ops);
}

FlightPtr SoftwareTransport::flight_of(Op& op) {
  auto flight = std::make_shared<Flight>();
  flight->rank = config_.rank;
  flight->request = op.request;
  flight->inputs = op.inputs;
  flight->outputs = op.outputs;
  flight->input_splits = op.input_splits;
  flight->output_splits = op.output_splits;
  if (is_collective(op.request.opcode)) {
    flight->turn = ++next_turn_;
    flight->call = call_of(op);
  }
  return flight;
}

/// The stream of an op that does not queue behind collectives: that of the ops with the same peer and tag.
StreamPtr SoftwareTransport::lane_of(const Op& op) {
  auto& lane = lanes_[{op.request.opcode, op.request.peer, op.request.tag}];
  if (lane == nullptr) lane = Machine::the().make_stream(config_.device.index);
  return lane;
}

void SoftwareTransport::launch(const std::vector<Op*>& ops) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (aborted_) throw Failure(*aborted_);
  if (!ops[0]->direct) {
    const bool apart = mutation_ == Mutation::no_order;
    return launch_in(*(apart ? Machine::the().make_stream(config_.device.index) : stream_), ops);
  }
  for (Op* op : ops) launch_in(*lane_of(*op), {op});
}

/// As one batch: none of the ops waits for another.
void SoftwareTransport::launch_in(Stream& stream, const std::vector<Op*>& ops) {
  Machine& machine = Machine::the();
  const auto before = machine.record(stream);
  std::vector<FlightPtr> flights;
  for (Op* op : ops) {
    flights.push_back(flight_of(*op));
    if (const auto given = stream_events_.find(op->ticket); given != stream_events_.end()) {
      machine.wait(stream, given->second);
      stream_events_.erase(given);
    } else if (mutation_ == Mutation::late_input_wait && (op->request.flags & C10D_FLAG_STREAM) != 0) {
      machine.wait(stream, machine.record(*machine.find_stream(config_.device.index, op->request.stream)));
    }
  }
  machine.put(stream, [this, flights] {
    for (const auto& flight : flights) begin(flight);
  });
  for (const auto& flight : flights) machine.wait(stream, flight->matched);
  machine.put(stream, [this, flights] {
    for (const auto& flight : flights) end(*flight);
  });
  const auto done = machine.record(stream);
  for (size_t i = 0; i < ops.size(); i++) {
    if (mutation_ == Mutation::no_end_wait) {
      ended_.push_back({ops[i], std::nullopt, ops[i]->request.peer, {}, Clock::now()});
      signal();
      continue;
    }
    flights[i]->stream = stream.shared_from_this();
    flights[i]->done = mutation_ == Mutation::short_output_wait ? before : done;
    flights_[ops[i]->ticket] = {ops[i], flights[i]};
    machine.put(stream, [this, ticket = ops[i]->ticket, flight = flights[i]] { announce(ticket, *flight); });
  }
}

// ---- on the device ---------------------------------------------------------------------------------------------

void SoftwareTransport::begin(const FlightPtr& flight) {
  Memory& memory = Memory::all();
  flight->started = Clock::now();
  const auto failure = attempt([&] {
    for (const auto& buffer : is_in_place(flight->request.opcode) ? flight->outputs : flight->inputs) {
      flight->contribution.emplace_back(buffer.bytes);
      memory.read(buffer.address, flight->contribution.back().data(), buffer.bytes);
    }
    for (const auto& buffer : flight->outputs) {
      if (!is_service(flight->request.opcode)) memory.fill(buffer.address, kPoison, buffer.bytes);
    }
  });
  if (failure) {
    Fabric::refuse(*flight, *failure);
  } else {
    fabric_->arrive(flight);
  }
}

void SoftwareTransport::end(Flight& flight) {
  if (!flight.failure) {
    flight.failure = attempt([&] {
      for (size_t i = 0; i < flight.results.size(); i++) {
        Memory::all().write(flight.outputs[i].address, flight.results[i].data(), flight.results[i].size());
      }
      if (is_service(flight.request.opcode)) serve(flight);
    });
  }
  flight.finished = Clock::now();
}

void SoftwareTransport::serve(const Flight& flight) {
  const uint64_t address = flight.outputs[0].address;
  const auto require = [&](bool holds, const char* otherwise) {
    if (!holds) throw Failure(C10D_ERR_INVALID, otherwise);
  };
  const std::lock_guard<std::mutex> lock(mutex_);
  switch (flight.request.opcode) {
    case C10D_SERVICE_REGISTER_MEMORY:
      return require(registered_.insert(address).second, "the memory is registered already");
    case C10D_SERVICE_DEREGISTER_MEMORY:
      return require(registered_.erase(address) > 0, "the memory is not registered");
    case C10D_SERVICE_OPEN_WINDOW:
      return require(windows_.emplace(address, flight.addresses).second, "the window is open already");
    default:
      return require(windows_.erase(address) > 0, "there is no such window");
  }
}

void SoftwareTransport::announce(uint64_t ticket, const Flight& flight) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = flights_.find(ticket);
  if (found == flights_.end()) return;
  ended_.push_back({found->second.first, flight.failure, flight.source, flight.started, flight.finished});
  flights_.erase(found);
  signal();
}

// ---- ends ------------------------------------------------------------------------------------------------------

void SoftwareTransport::progress(std::vector<Op*>& ended) {
  uint64_t signals = 0;
  if (event_fd_ >= 0) [[maybe_unused]]
    auto got = ::read(event_fd_, &signals, sizeof signals);
  std::vector<Ended> all;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    all.swap(ended_);
  }
  for (auto& one : all) {
    one.op->failure = std::move(one.failure);
    one.op->source = one.source;
    if ((one.op->request.flags & C10D_FLAG_TIMES) != 0) {
      if (one.started != Clock::time_point()) one.op->started = one.started;
      one.op->finished = one.finished;
    }
    ended.push_back(one.op);
  }
}

void SoftwareTransport::synchronize(Op& op, uint64_t handle) {
  Machine& machine = Machine::the();
  const auto stream = machine.find_stream(config_.device.index, handle);
  if (stream == nullptr) throw Failure(C10D_ERR_INVALID, "no such stream on " + text_of(config_.device));
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = flights_.find(op.ticket);
  // If the op has ended on the device, there is nothing to wait for.
  if (found == flights_.end() || mutation_ == Mutation::no_output_wait) return;
  const bool other = mutation_ == Mutation::other_output_stream;
  machine.wait(other ? *machine.find_stream(config_.device.index, 0) : *stream, found->second.second->done);
}

uint64_t SoftwareTransport::window_address(uint64_t address, int32_t rank) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = windows_.find(address);
  return found == windows_.end() ? 0 : found->second[static_cast<size_t>(rank)];
}

}  // namespace softdev

std::shared_ptr<Transport> make_transport(const Config& config) {
  return std::make_shared<softdev::SoftwareTransport>(config);
}

std::string probe() {
  const std::lock_guard<std::mutex> lock(softdev::unavailable_mutex);
  if (!softdev::unavailable.empty()) throw Failure(C10D_ERR_UNAVAILABLE, softdev::unavailable);
  return "software device 1.0";
}

}  // namespace c10d
