// Groups with too many ranks for all to compare their calls with each other: the others are notified of a mismatch
// before connections break.
#include <doctest/doctest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "failure_view.h"
#include "group_store.h"

using namespace c10d::test;

namespace {

constexpr int kSize = 9;
constexpr int kOdd = 4;
constexpr double kLimitMs = 30'000;

struct Call {
  uint32_t opcode;
  int32_t root = -1;
};

/// One rank of a group.
class Rank {
 public:
  Rank(int rank, GroupStore& store) : data_(1, 1), gathered_(kSize) {
    const std::string options = std::string("host=127.0.0.1") + '\0';
    c10d_config config{};
    config.size = sizeof config;
    config.rank = rank;
    config.world_size = kSize;
    config.timeout_ms = kLimitMs;
    config.options = reinterpret_cast<uint64_t>(options.data());
    config.options_bytes = options.size();
    group_ = c10d_create(&config);
    wake_fd_ = c10d_wake_fd(group_);
    connected_ = connect(group_, wake_fd_, store) == C10D_OK;
  }
  ~Rank() {
    ::close(wake_fd_);
    c10d_close(group_, kLimitMs);
  }
  Rank(const Rank&) = delete;
  Rank& operator=(const Rank&) = delete;

  bool connected() const { return connected_; }

  /// How a blocking call ends.
  FailureView run(const Call& call) {
    const c10d_buffer own{reinterpret_cast<uint64_t>(data_.data()), data_.size() * sizeof(float)};
    const c10d_buffer all{reinterpret_cast<uint64_t>(gathered_.data()), gathered_.size() * sizeof(float)};
    const bool gathers = call.opcode == C10D_OP_ALLGATHER_BASE;
    c10d_op op{};
    op.size = sizeof op;
    op.opcode = call.opcode;
    op.dtype = C10D_FLOAT32;
    op.peer = call.root;
    op.timeout_ms = kLimitMs;
    op.premul_factor = 1;
    if (gathers) {
      op.inputs = reinterpret_cast<uint64_t>(&own);
      op.input_count = 1;
    }
    op.outputs = reinterpret_cast<uint64_t>(gathers ? &all : &own);
    op.output_count = 1;
    const int64_t id = c10d_submit(group_, &op, 1);
    // The group had already failed.
    if (id <= 0) return take_failure(group_, 0);
    c10d_event event{};
    if (c10d_wait(group_, static_cast<uint64_t>(id), kLimitMs, &event, sizeof event) == C10D_OK) return {};
    return take_failure(group_, static_cast<uint64_t>(id));
  }

  bool failed() const { return c10d_group_state(group_) == C10D_FAILED; }

 private:
  std::vector<float> data_;
  std::vector<float> gathered_;
  c10d_group* group_;
  int wake_fd_;
  bool connected_;
};

/// Runs `body(rank)` on all ranks. Each stays open until all have ended.
std::vector<FailureView> on_all(const std::function<FailureView(int, Rank&)>& body) {
  GroupStore store;
  std::vector<FailureView> failures(kSize);
  std::atomic<int> ended{0};
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kSize; rank++) {
    threads.emplace_back([&, rank] {
      Rank own(rank, store);
      if (own.connected()) failures[static_cast<size_t>(rank)] = body(rank, own);
      ended++;
      while (ended < kSize) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    });
  }
  for (auto& thread : threads) thread.join();
  return failures;
}

const Call kAllReduce{C10D_OP_ALLREDUCE};
const Call kAllGather{C10D_OP_ALLGATHER_BASE};
const Call kBroadcast{C10D_OP_BROADCAST, 0};
/// Only the neighbours of the odd rank exchange anything with it.
const Call kFromLast{C10D_OP_BROADCAST, kSize - 1};
const std::string kOddName = "rank " + std::to_string(kOdd) + " called ";

}  // namespace

TEST_CASE("a rank that is not compared with the odd one reports calls that differ, and blames no healthy rank") {
  for (const Call& usual : {kAllReduce, kAllGather}) {
    for (int round = 0; round < 5; round++) {
      CAPTURE(usual.opcode);
      const auto failures = on_all([&](int rank, Rank& own) {
        const auto before = own.run(kAllReduce);
        return before.status == C10D_OK ? own.run(rank == kOdd ? kBroadcast : usual) : before;
      });
      for (const auto& failure : failures) {
        CHECK(failure.status == C10D_ERR_DESYNC);
        CHECK(failure.text.find(kOddName + "broadcast(float32[1], root 0)") != std::string::npos);
        CHECK(failure.text.find("as collective #2") != std::string::npos);
        REQUIRE(failure.ranks.size() == 2);
        CHECK((failure.ranks[0] == kOdd || failure.ranks[1] == kOdd));
      }
    }
  }
}

TEST_CASE("a rank that makes its call after the others failed was notified of the reason") {
  const auto failures = on_all([](int rank, Rank& own) {
    // It is neither the odd rank nor compared with it.
    if (rank == 0) {
      while (!own.failed()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return own.run(rank == kOdd ? kBroadcast : kAllReduce);
  });
  for (const auto& failure : failures) {
    CHECK(failure.status == C10D_ERR_DESYNC);
    CHECK(failure.text.find(kOddName) != std::string::npos);
  }
}

TEST_CASE("ranks ahead of one that skipped a call are not reported to have refused one") {
  for (int round = 0; round < 5; round++) {
    const auto failures = on_all([](int rank, Rank& own) {
      const auto first = rank == kOdd ? FailureView{} : own.run(kFromLast);
      return first.status == C10D_OK ? own.run(kAllReduce) : first;
    });
    for (const auto& failure : failures) {
      CHECK(failure.status == C10D_ERR_DESYNC);
      CHECK(failure.text.find("called broadcast(float32[1], root 8)") != std::string::npos);
      CHECK(failure.text.find(kOddName + "allReduce(float32[1], SUM)") != std::string::npos);
      CHECK(failure.text.find("refused") == std::string::npos);
    }
  }
}
