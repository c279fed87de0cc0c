// The backend of ../shm.c once more, over the engine: only the transport is left to write. Queues, threads, time-outs,
// events and wait() are the engine's, the reductions of all dtypes are those of native/reduction.
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <memory>
#include <sstream>
#include <string>
#include <tuple>

#include "engine/transport.h"
#include "ops/signature.h"
#include "reduction/reduction.h"

namespace {

using c10d::Failure;

constexpr size_t kChunk = 1 << 16;
constexpr timespec kTick{0, 50'000'000};

/// left: it may have done its part before. broken: nothing can come of what is under way.
enum Place : uint32_t { here, left, broken };

/// One for each rank. Its halves take turns: who has come to step n has read everything of step n - 1.
struct Slot {
  std::atomic<uint32_t> step, place;
  uint64_t magic;
  c10d::Signature calls[2];
  alignas(64) char data[2][kChunk];
};

long futex(std::atomic<uint32_t>& word, int what, uint32_t value, const timespec* limit = nullptr) {
  return syscall(SYS_futex, &word, what, value, limit, nullptr, 0);
}

/// A rank locks its byte of the memory; the kernel lets go of it when the process dies.
struct flock byte_of(int rank) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_start = rank;
  lock.l_len = 1;
  return lock;
}

[[noreturn]] void give_up(const char* what) { throw Failure(C10D_ERR_BACKEND, std::string(what) + strerror(errno)); }

class SharedMemory final : public c10d::Transport {
 public:
  explicit SharedMemory(const c10d::Config& config)
      : rank_(config.rank), size_(config.world_size), deadline_(config.connect_deadline) {}

  ~SharedMemory() override {
    if (slots_ != nullptr) munmap(slots_, bytes());
    if (memory_ >= 0) ::close(memory_);
  }

  void connect(c10d::Exchange& exchange) override {
    uint64_t magic = 0;
    if (rank_ == 0) {
      memory_ = memfd_create("c10d-shm", MFD_CLOEXEC);
      if (memory_ < 0 || ftruncate(memory_, static_cast<off_t>(bytes())) != 0) give_up("no shared memory: ");
      if (getrandom(&magic, sizeof magic, 0) < 0) give_up("no random number: ");
    } else {
      const auto value = exchange.await(exchange.request("memory"), deadline_);
      std::string path;
      std::istringstream(std::string(value.begin(), value.end())) >> path >> magic;
      memory_ = open(path.c_str(), O_RDWR | O_CLOEXEC);
      struct stat found {};
      if (memory_ < 0 || fstat(memory_, &found) != 0 || static_cast<size_t>(found.st_size) != bytes()) {
        throw Failure(C10D_ERR_BACKEND, "rank 0 shares no memory with this rank: is it on another host?", 0);
      }
    }
    void* mapped = mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, memory_, 0);
    if (mapped == MAP_FAILED) give_up("cannot map the memory: ");
    auto* slots = static_cast<Slot*>(mapped);
    if (rank_ == 0) slots[0].magic = magic;
    slots_ = slots;
    if (slots[0].magic != magic) throw Failure(C10D_ERR_BACKEND, "this is not the memory of rank 0", 0);
    auto lock = byte_of(rank_);
    if (fcntl(memory_, F_OFD_SETLK, &lock) != 0) give_up("cannot lock a byte: ");
    if (rank_ == 0) {
      std::ostringstream value;
      value << "/proc/" << getpid() << "/fd/" << memory_ << ' ' << magic;
      exchange.set("memory", value.str().data(), value.str().size());
    }
    meet();
    connected_ = true;
  }

  void check(const c10d::Op& op) const override {
    const c10d_op& request = op.request;
    switch (request.opcode) {
      case C10D_OP_ALLREDUCE:
      case C10D_OP_REDUCE:
        if (request.reduce_op != C10D_PREMUL_SUM && c10d::find_reduction(request.dtype, request.reduce_op)) return;
        throw Failure(C10D_ERR_UNSUPPORTED, "no such reduction of this dtype");
      case C10D_OP_BARRIER:
        if ((request.flags & C10D_FLAG_MONITORED) == 0) return;
        throw Failure(C10D_ERR_UNSUPPORTED, "no monitored barrier");
      case C10D_OP_BROADCAST:
      case C10D_OP_ALLGATHER:
      case C10D_OP_ALLGATHER_BASE:
      case C10D_OP_GATHER:
        return;
      default:
        throw Failure(C10D_ERR_UNSUPPORTED, "no such op");
    }
  }

  void number(c10d::Op&) noexcept override {}

  void run_blocking(c10d::Op& op) override {
    const auto own = !op.inputs.empty() ? op.inputs[0] : !op.outputs.empty() ? op.outputs[0] : c10d_buffer{};
    const c10d::Signature call{c10d::call_of(op)};
    uint64_t at = 0;
    do {
      const size_t bytes = std::min<uint64_t>(own.bytes - at, kChunk);
      const unsigned half = (step_ + 1) % 2;
      slots_[rank_].calls[half] = call;
      copy(reinterpret_cast<uint64_t>(slots_[rank_].data[half]), reinterpret_cast<char*>(own.address + at), bytes);
      meet();
      compare_calls(step_);
      take(op, own, at, bytes, half);
      at += bytes;
    } while (at < own.bytes);
  }

  int awaited_peer() override { return awaited_; }

  void abort(const Failure&) noexcept override {
    aborted_ = true;
    leave(broken);
  }

  void close() noexcept override { leave(left); }

 private:
  size_t bytes() const { return static_cast<size_t>(size_) * sizeof(Slot); }

  static void copy(uint64_t to, const char* from, size_t bytes) {
    if (bytes > 0) memcpy(reinterpret_cast<void*>(to), from, bytes);
  }

  /// Does what an op is there for with the part of it from byte `at` on, which is in all slots.
  void take(const c10d::Op& op, c10d_buffer own, uint64_t at, size_t bytes, unsigned half) {
    const auto& [root, dtype, reduce_op] = std::tie(op.request.peer, op.request.dtype, op.request.reduce_op);
    const auto part = [&](int r) { return slots_[r].data[half]; };
    switch (op.request.opcode) {
      case C10D_OP_REDUCE:
        if (rank_ != root) break;
        [[fallthrough]];
      case C10D_OP_ALLREDUCE: {
        auto* sum = reinterpret_cast<char*>(own.address + at);
        const size_t n = bytes / c10d::element_size(dtype);
        copy(own.address + at, part(0), bytes);
        for (int r = 1; r < size_; r++) c10d::find_reduction(dtype, reduce_op)(sum, sum, part(r), n);
        if (reduce_op == C10D_AVG) c10d::divide(sum, n, dtype, size_);
        break;
      }
      case C10D_OP_BROADCAST:
        copy(own.address + at, part(root), bytes);
        break;
      case C10D_OP_GATHER:
      case C10D_OP_ALLGATHER:
        for (size_t r = 0; r < op.outputs.size(); r++) {
          copy(op.outputs[r].address + at, part(static_cast<int>(r)), bytes);
        }
        break;
      case C10D_OP_ALLGATHER_BASE:
        for (int r = 0; r < size_; r++) {
          copy(op.outputs[0].address + static_cast<uint64_t>(r) * own.bytes + at, part(r), bytes);
        }
        break;
    }
  }

  /// Compares what this rank calls with what those call who have come to the same step. Throws Failure.
  void compare_calls(uint32_t step) const {
    const unsigned half = step % 2;
    for (int r = 0; r < size_; r++) {
      if (!behind(r, step)) c10d::require_same(slots_[rank_].calls[half], rank_, slots_[r].calls[half], r);
    }
  }

  /// Comes to the next step and waits until all ranks have. Time-outs are the engine's: it calls abort().
  void meet() {
    const uint32_t step = ++step_;
    slots_[rank_].step = step;
    futex(slots_[rank_].step, FUTEX_WAKE, INT_MAX);
    for (awaited_ = 0; awaited_ < size_; awaited_++) {
      Slot& other = slots_[awaited_];
      while (behind(awaited_, step)) {
        const uint32_t seen = other.step;
        for (int r = 0; r < size_; r++) check_on(r, step);
        if (static_cast<int32_t>(seen - step) >= 0) continue;
        if (futex(other.step, FUTEX_WAIT, seen, &kTick) == 0 || errno != ETIMEDOUT || !connected_) continue;
        auto lock = byte_of(awaited_);
        if (awaited_ != rank_ && fcntl(memory_, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK) other.place = left;
      }
    }
    awaited_ = -1;
  }

  bool behind(int rank, uint32_t step) const { return static_cast<int32_t>(slots_[rank].step - step) < 0; }

  void check_on(int rank, uint32_t step) const {
    if (aborted_) throw Failure(C10D_ERR_ABORTED, "aborted");
    const uint32_t place = slots_[rank].place;
    const auto name = "rank " + std::to_string(rank);
    // Perhaps because of what the ranks call.
    if (place == broken && connected_) compare_calls(step);
    if (place == broken) throw Failure(C10D_ERR_NETWORK, name + " has given up the group", rank);
    if (place == left && behind(rank, step)) throw Failure(C10D_ERR_NETWORK, name + " has left the group", rank);
  }

  /// Tells the others, and whoever waits here, that this rank takes no part any more.
  void leave(Place place) noexcept {
    Slot* slots = slots_;
    if (slots == nullptr) return;
    uint32_t expected = here;
    slots[rank_].place.compare_exchange_strong(expected, place);
    for (int r = 0; r < size_; r++) futex(slots[r].step, FUTEX_WAKE, INT_MAX);
  }

  const int rank_, size_;
  const c10d::Clock::time_point deadline_;
  int memory_ = -1;
  uint32_t step_ = 0;
  bool connected_ = false;
  std::atomic<Slot*> slots_{nullptr};
  std::atomic<bool> aborted_{false};
  std::atomic<int> awaited_{-1};
};

}  // namespace

std::shared_ptr<c10d::Transport> c10d::make_transport(const Config& config) {
  return std::make_shared<SharedMemory>(config);
}

std::string c10d::probe() { return "shared memory 1.0"; }
