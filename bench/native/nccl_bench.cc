// nccl_bench OPS: what an all-reduce costs on one rank: NCCL's and CUDA's calls alone, and the same op by the shim's ABI.
// On the NCCL emulator in null mode (NCCL_EMULATOR_NULL=1, libraries by LD_LIBRARY_PATH), where the work itself costs
// nothing, the difference is the overhead of the shim. Prints a line of JSON.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <vector>

#include "c10d.h"
#include "communicator_config.h"
#include "device_context.h"
#include "library.h"
#include "ops/op.h"

namespace c10d::bench {
namespace {

using nccl_shim::ContextScope;
using nccl_shim::DeviceContext;
using nccl_shim::library;
using nccl_shim::NcclResult;
using nccl_shim::require;

constexpr size_t kBytes = 1024;
/// Ops that are in flight at the same time where they are submitted without waiting for each.
constexpr int kDepth = 64;

void require_nccl(NcclResult result) {
  if (result != NcclResult::success && result != NcclResult::in_progress) {
    throw nccl_failure(result, nullptr, "NCCL");
  }
}

/// Nanoseconds of one call of `run`, of which each does `ops` ops: the best of some rounds.
template <class Run>
double best_of(int ops, Run run) {
  double best = 1e18;
  for (int round = 0; round < 7; round++) {
    const auto begin = Clock::now();
    run();
    best = std::min(best, std::chrono::duration<double, std::nano>(Clock::now() - begin).count() / ops);
  }
  return best;
}

/// The calls that a program in C makes for one op on a stream of its own.
class Calls {
 public:
  explicit Calls(const DeviceContext& context) : stream_(context.make_stream(false)) {
    const auto& cuda = library().cuda;
    require(cuda.event_create(&input_, nccl_shim::kCuEventDisableTiming), "cuEventCreate");
    require(cuda.event_create(&end_, nccl_shim::kCuEventDisableTiming), "cuEventCreate");
    require(cuda.mem_alloc(&memory_, kBytes), "cuMemAlloc");
    nccl_shim::NcclUniqueId id{};
    require_nccl(library().nccl.get_unique_id(&id));
    const Options none("", 0);
    const nccl_shim::Mutation no_mutation(none);
    nccl_shim::CommunicatorConfig config(none, library().version, no_mutation);
    require_nccl(library().nccl.comm_init_rank_config(&comm_, 1, id, 0, config.get()));
    await_ready();
  }
  ~Calls() {
    library().nccl.comm_abort(comm_);
    library().cuda.mem_free(memory_);
    library().cuda.stream_destroy(stream_);
  }
  Calls(const Calls&) = delete;
  Calls& operator=(const Calls&) = delete;

  void put() {
    const auto& cuda = library().cuda;
    require(cuda.event_record(input_, nullptr), "cuEventRecord");
    require(cuda.stream_wait_event(stream_, input_, 0), "cuStreamWaitEvent");
    auto* const memory = reinterpret_cast<void*>(memory_);
    require_nccl(library().nccl.all_reduce(memory, memory, kBytes / sizeof(float), nccl_shim::NcclType::float32,
                                           nccl_shim::kNcclSum, comm_, stream_));
    await_ready();
    require(cuda.event_record(end_, stream_), "cuEventRecord");
  }
  void await_end() const {
    while (library().cuda.event_query(end_) == nccl_shim::CuResult::not_ready) std::this_thread::yield();
  }

 private:
  void await_ready() const {
    NcclResult state = NcclResult::in_progress;
    while (state == NcclResult::in_progress) require_nccl(library().nccl.comm_get_async_error(comm_, &state));
  }

  const nccl_shim::CuStream stream_;
  nccl_shim::CuEvent input_ = nullptr;
  nccl_shim::CuEvent end_ = nullptr;
  nccl_shim::CuAddress memory_ = 0;
  nccl_shim::NcclComm comm_ = nullptr;
};

/// A group of one rank by the ABI.
class Group {
 public:
  Group() {
    c10d_config config{};
    config.size = sizeof config;
    config.world_size = 1;
    config.device_type = C10D_DEVICE_CUDA;
    group_ = c10d_create(&config);
    if (group_ == nullptr) throw std::runtime_error("c10d_create has failed");
    c10d_event event{};
    while (event.kind != C10D_EVENT_READY) {
      c10d_drain(group_, &event, sizeof event, 1);
      if (event.kind == C10D_EVENT_STORE_SET) {
        c10d_exchange_reply(group_, event.id, C10D_OK, nullptr, 0);
        event.kind = 0;
      }
      std::this_thread::yield();
    }
    if (event.status != C10D_OK) throw std::runtime_error("the group cannot be made");
    require(library().cuda.mem_alloc(&memory_, kBytes), "cuMemAlloc");
    buffer_ = {memory_, kBytes};
    op_.size = sizeof op_;
    op_.opcode = C10D_OP_ALLREDUCE;
    op_.dtype = C10D_FLOAT32;
    op_.peer = -1;
    op_.flags = C10D_FLAG_STREAM;
    op_.device_type = C10D_DEVICE_CUDA;
    op_.outputs = reinterpret_cast<uint64_t>(&buffer_);
    op_.output_count = 1;
  }
  ~Group() {
    c10d_close(group_, 5'000);
    library().cuda.mem_free(memory_);
  }
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  uint64_t submit() {
    const int64_t id = c10d_submit_one(group_, &op_, nullptr, nullptr);
    if (id <= 0) throw std::runtime_error("c10d_submit_one has failed");
    return static_cast<uint64_t>(id);
  }
  void kick() { c10d_kick(group_); }
  void wait(uint64_t id) {
    c10d_event event{};
    if (c10d_wait(group_, id, 1e9, &event, sizeof event) != C10D_OK) throw std::runtime_error("an op has failed");
  }
  void drain() {
    c10d_event events[kDepth];
    c10d_drain(group_, events, sizeof events[0], kDepth);
  }

 private:
  c10d_group* group_ = nullptr;
  nccl_shim::CuAddress memory_ = 0;
  c10d_buffer buffer_{};
  c10d_op op_{};
};

void measure(int ops) {
  const DeviceContext context(0);
  const ContextScope scope(context);
  double calls = 0;
  {
    Calls direct(context);
    calls = best_of(ops, [&] {
      for (int i = 0; i < ops; i++) {
        direct.put();
        direct.await_end();
      }
    });
  }
  Group group;
  const double waited = best_of(ops, [&] {
    for (int i = 0; i < ops; i++) {
      const uint64_t id = group.submit();
      group.wait(id);
    }
  });
  double on_host = 1e18;
  const double in_flight = best_of(ops, [&] {
    double submitting = 0;
    for (int done = 0; done < ops; done += kDepth) {
      const auto begin = Clock::now();
      uint64_t last = 0;
      for (int i = 0; i < kDepth; i++) last = group.submit();
      group.kick();
      submitting += std::chrono::duration<double, std::nano>(Clock::now() - begin).count();
      group.wait(last);
      group.drain();
    }
    on_host = std::min(on_host, submitting / ops);
  });
  std::printf(
      "{\"library\":\"nccl %s\",\"calls_ns\":%.0f,\"waited_ns\":%.0f,\"in_flight_ns\":%.0f,\"submit_ns\":%.0f}\n",
      nccl_shim::version_text(library().version).c_str(), calls, waited, in_flight, on_host);
}

}  // namespace
}  // namespace c10d::bench

int main(int argc, char** argv) {
  const int ops = argc > 1 ? std::atoi(argv[1]) : 6'400;
  const auto failure = c10d::attempt([&] { c10d::bench::measure(std::max(ops, 64)); });
  if (!failure) return 0;
  std::fprintf(stderr, "nccl_bench: %s\n", failure->text().c_str());
  return 1;
}
