// Groups with too many ranks for all to compare their calls with each other: the others are notified of a mismatch
// before connections break.
#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "failure_view.h"
#include "thread_rank.h"

using namespace c10d::test;

namespace {

constexpr int kSize = 9;
constexpr int kOdd = 4;

struct Call {
  uint32_t opcode;
  int32_t root = -1;
};

/// How a blocking call ends.
FailureView run(ThreadRank& rank, const Call& call) {
  std::vector<float> data(1, 1);
  std::vector<float> gathered(kSize);
  const auto own = buffer_of(data);
  const auto all = buffer_of(gathered);
  const bool gathers = call.opcode == C10D_OP_ALLGATHER_BASE;
  return rank.wait(rank.submit(call.opcode, call.root, gathers ? &own : nullptr, gathers ? &all : &own));
}

std::vector<FailureView> on_all_ranks(const std::function<FailureView(int, ThreadRank&)>& body) {
  return on_all<FailureView>(kSize, body);
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
      const auto failures = on_all_ranks([&](int rank, ThreadRank& own) {
        const auto before = run(own, kAllReduce);
        return before.status == C10D_OK ? run(own, rank == kOdd ? kBroadcast : usual) : before;
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
  const auto failures = on_all_ranks([](int rank, ThreadRank& own) {
    // It is neither the odd rank nor compared with it.
    if (rank == 0) {
      while (!own.failed()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return run(own, rank == kOdd ? kBroadcast : kAllReduce);
  });
  for (const auto& failure : failures) {
    CHECK(failure.status == C10D_ERR_DESYNC);
    CHECK(failure.text.find(kOddName) != std::string::npos);
  }
}

TEST_CASE("ranks ahead of one that skipped a call are not reported to have refused one") {
  for (int round = 0; round < 5; round++) {
    const auto failures = on_all_ranks([](int rank, ThreadRank& own) {
      const auto first = rank == kOdd ? FailureView{} : run(own, kFromLast);
      return first.status == C10D_OK ? run(own, kAllReduce) : first;
    });
    for (const auto& failure : failures) {
      CHECK(failure.status == C10D_ERR_DESYNC);
      CHECK(failure.text.find("called broadcast(float32[1], root 8)") != std::string::npos);
      CHECK(failure.text.find(kOddName + "allReduce(float32[1], SUM)") != std::string::npos);
      CHECK(failure.text.find("refused") == std::string::npos);
    }
  }
}
