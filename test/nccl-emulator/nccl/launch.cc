#include "launch.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>

#include "cuda_emulator.h"
#include "injected_faults.h"
#include "op_run.h"
#include "report.h"

namespace nccl_emulator {
namespace {

constexpr int illegal_address = 700;  // CUDA_ERROR_ILLEGAL_ADDRESS

// It lives until the last stream has passed it.
class Launch {
 public:
  Launch(std::shared_ptr<Communicator> communicator, std::vector<Op> ops)
      : communicator_(std::move(communicator)), ops_(std::move(ops)), aborts_(communicator_->aborts) {
    turn_ = communicator_->turns.take();
  }
  ~Launch() { end(); }
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;

  int run();
  void end();

  // For streams other than the one that the launch runs on.
  void expect_stream() { missing_++; }
  void stream_arrives();
  void wait_until_ended();

 private:
  bool stopped() const { return communicator_->aborts != aborts_ || cuemu_broken(communicator_->device) != 0; }
  int run_ops();
  bool progress(Exchange& exchange, std::vector<OpRun>& runs);
  void report_mismatch(const std::string& text);

  std::shared_ptr<Communicator> communicator_;
  std::vector<Op> ops_;
  uint32_t aborts_;
  uint64_t turn_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int missing_ = 0;
  bool ended_ = false;
  bool mismatch_reported_ = false;
};

void Launch::end() {
  {
    std::lock_guard lock(mutex_);
    if (ended_) return;
    ended_ = true;
    changed_.notify_all();
  }
  if (int error = cuemu_broken(communicator_->device); error != 0)
    communicator_->fail(refuse(ncclUnhandledCudaError, "Cuda failure %d while ops run", error));
  communicator_->turns.end(turn_);
}

void Launch::stream_arrives() {
  std::lock_guard lock(mutex_);
  missing_--;
  changed_.notify_all();
}

void Launch::wait_until_ended() {
  std::unique_lock lock(mutex_);
  while (!ended_ && !stopped()) changed_.wait_for(lock, std::chrono::milliseconds(5));
}

int Launch::run() {
  communicator_->turns.enter();
  int result = run_ops();
  communicator_->turns.leave();
  end();
  return result;
}

int Launch::run_ops() {
  std::vector<OpRun> runs;
  for (auto& op : ops_) runs.emplace_back(op, communicator_->rank, communicator_->ranks);
  bool bound = true;
  for (auto& run : runs) bound = run.bind(communicator_->device) && bound;
  for (auto& run : runs) run.poison();
  if (!bound) {
    communicator_->fail(misuse(ncclUnhandledCudaError, "memory of an op was freed before the stream came to it"));
    return illegal_address;
  }
  {
    std::unique_lock lock(mutex_);
    while (missing_ > 0 && !stopped()) changed_.wait_for(lock, std::chrono::milliseconds(5));
  }
  communicator_->turns.wait_for(turn_, [this] { return stopped(); });
  if (stopped()) return 0;
  cuemu_nap("nccl op");
  Exchange exchange(*communicator_->segment, communicator_->rank);
  bool hangs = std::any_of(ops_.begin(), ops_.end(), [](const Op& op) { return op.hangs; });
  if (!hangs)
    for (auto& run : runs) run.start(exchange);
  while (!stopped() && !progress(exchange, runs))
    communicator_->segment->sleep(communicator_->rank, [&] { return stopped() || (!hangs && exchange.progress()); });
  return 0;
}

// Whether all ops have ended.
bool Launch::progress(Exchange& exchange, std::vector<OpRun>& runs) {
  while (exchange.progress() && !stopped()) continue;
  if (!exchange.mismatch().empty()) report_mismatch(exchange.mismatch());
  bool finished = true;
  for (auto& run : runs) {
    if (!run.op().hangs && !run.finished()) run.advance(InjectedFaults::of_process().eager);
    finished = finished && run.finished();
  }
  return finished;
}

// NCCL has no such check: without the fault the op hangs.
void Launch::report_mismatch(const std::string& text) {
  if (mismatch_reported_ || !InjectedFaults::of_process().report_mismatch) return;
  mismatch_reported_ = true;
  communicator_->fail(misuse(ncclInvalidUsage, "%s", text.c_str()));
}

// What a stream holds of a launch.
struct Hold {
  std::shared_ptr<Launch> launch;
  bool leads;
};

int run_hold(void* data) {
  auto& hold = *static_cast<Hold*>(data);
  if (hold.leads) return hold.launch->run();
  hold.launch->stream_arrives();
  hold.launch->wait_until_ended();
  return 0;
}

void free_hold(void* data) {
  std::unique_ptr<Hold> hold(static_cast<Hold*>(data));
  if (hold->leads) hold->launch->end();
}

void declare_memory(const Communicator& communicator, const Op& op) {
  if (auto bytes = op.in_bytes(communicator.rank, communicator.ranks)) cuemu_uses(op.in, bytes);
  if (auto bytes = op.out_bytes(communicator.rank, communicator.ranks)) cuemu_uses(op.out, bytes);
  if (op.redop.factor_address) cuemu_uses(op.redop.factor_address, element_size(op.dtype));
}

std::string title(const std::vector<Op>& ops) {
  std::string text = std::string("nccl") + op_name(ops.front().kind);
  if (ops.size() > 1) text += " and " + std::to_string(ops.size() - 1) + " more";
  return text;
}

}  // namespace

ncclResult_t launch(const std::shared_ptr<Communicator>& communicator, const std::vector<Op>& ops) {
  if (cuemu_null_mode()) return ncclSuccess;
  std::vector<cudaStream_t> streams;
  for (auto& op : ops)
    if (std::find(streams.begin(), streams.end(), op.stream) == streams.end()) streams.push_back(op.stream);
  auto work = std::make_shared<Launch>(communicator, ops);
  for (size_t i = 1; i < streams.size(); i++) work->expect_stream();
  auto name = title(ops);
  for (size_t i = 0; i < streams.size(); i++) {
    bool leads = i == 0;
    for (auto& op : ops)
      if (leads || op.stream == streams[i]) declare_memory(*communicator, op);
    auto hold = std::make_unique<Hold>(Hold{work, leads});
    int error = cuemu_enqueue(communicator->device, streams[i], name.c_str(), run_hold, free_hold, hold.get());
    if (error != 0) {
      work->end();
      return refuse(ncclUnhandledCudaError, "Cuda failure %d while %s is enqueued", error, name.c_str());
    }
    static_cast<void>(hold.release());
  }
  return ncclSuccess;
}

}  // namespace nccl_emulator
