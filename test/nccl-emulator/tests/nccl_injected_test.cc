// The faults of NCCL_EMULATOR_FAULTS.
#include <doctest/doctest.h>

#include <chrono>
#include <thread>

#include "nccl_ranks.h"

using namespace nccl_test;

namespace {

// Two ranks, with these faults.
void with_faults(const char* faults, const std::function<void(Rank&, int, const ncclUniqueId&)>& body) {
  ncclUniqueId id;
  REQUIRE(ncclGetUniqueId(&id) == ncclSuccess);
  auto failures = run_ranks(2, [&](int r) {
    setenv("NCCL_EMULATOR_FAULTS", faults, 1);
    Rank rank(r);
    body(rank, r, id);
  });
  CHECK(failures == "");
}

ncclResult_t all_reduce(Rank& rank, size_t count = 1) {
  static uint64_t buffer = rank.allocate(4000);
  return ncclAllReduce(pointer(buffer), pointer(buffer), count, ncclInt32, ncclSum, rank.comm, rank.stream);
}

ncclResult_t await_error(Rank& rank) {
  ncclResult_t state = ncclSuccess;
  auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (state == ncclSuccess && std::chrono::steady_clock::now() < limit) {
    ok(ncclCommGetAsyncError(rank.comm, &state), "async error");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return state;
}

}  // namespace

TEST_CASE("async-error@2 of one rank") {
  with_faults("async-error@2,rank=1", [](Rank& rank, int r, const ncclUniqueId& id) {
    ok(ncclCommInitRank(&rank.comm, 2, id, r), "init");
    for (int i = 0; i < 3; i++) {
      ncclResult_t state;
      ok(ncclCommGetAsyncError(rank.comm, &state), "async error");
      require_result(state, ncclSuccess, "state before the op");
      ok(all_reduce(rank), "all-reduce");
    }
    rank.synchronize();
    if (r == 1) require_result(await_error(rank), ncclSystemError, "state");
  });
}

TEST_CASE("init-error") {
  with_faults("init-error", [](Rank& rank, int r, const ncclUniqueId& id) {
    require_result(ncclCommInitRank(&rank.comm, 2, id, r), ncclSystemError, "init");
    auto config = config_initializer();
    config.blocking = 0;
    require_result(ncclCommInitRankConfig(&rank.comm, 2, id, r, &config), ncclInProgress, "init");
    require_result(Rank::settle(rank.comm), ncclSystemError, "state");
    ok(ncclCommAbort(rank.comm), "abort");
  });
}

TEST_CASE("slow-init") {
  with_faults("slow-init=100,rank=0", [](Rank& rank, int r, const ncclUniqueId& id) {
    auto start = std::chrono::steady_clock::now();
    ok(ncclCommInitRank(&rank.comm, 2, id, r), "init");
    require(r == 1 || std::chrono::steady_clock::now() - start >= std::chrono::milliseconds(100), "time");
  });
}

TEST_CASE("hang@1") {
  with_faults("hang@1", [](Rank& rank, int r, const ncclUniqueId& id) {
    ok(ncclCommInitRank(&rank.comm, 2, id, r), "init");
    ok(all_reduce(rank), "first");
    rank.synchronize();
    ok(all_reduce(rank), "second");
    for (int i = 0; i < 50; i++) {
      require(cuStreamQuery(rank.stream) == CUDA_ERROR_NOT_READY, "it ended");
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ok(ncclCommAbort(rank.comm), "abort");
    rank.synchronize();
  });
}

TEST_CASE("internal@1") {
  with_faults("internal@1", [](Rank& rank, int r, const ncclUniqueId& id) {
    ok(ncclCommInitRank(&rank.comm, 2, id, r), "init");
    ok(all_reduce(rank), "first");
    require_result(all_reduce(rank), ncclInternalError, "second");
    ok(all_reduce(rank), "third");
    rank.synchronize();
  });
}

TEST_CASE("mismatch-report") {
  with_faults("mismatch-report", [](Rank& rank, int r, const ncclUniqueId& id) {
    ok(ncclCommInitRank(&rank.comm, 2, id, r), "init");
    ok(all_reduce(rank, r == 0 ? 10 : 20), "call");
    require_result(await_error(rank), ncclInvalidUsage, "state");
    rank.require_fault("AllReduce of 20 elements");
    ok(ncclCommAbort(rank.comm), "abort");
    rank.synchronize();
  });
}

TEST_CASE("abort-tells-peers") {
  with_faults("abort-tells-peers", [](Rank& rank, int r, const ncclUniqueId& id) {
    ok(ncclCommInitRank(&rank.comm, 2, id, r), "init");
    if (r == 1) return ok(ncclCommAbort(rank.comm), "abort");
    ok(all_reduce(rank), "call");
    require_result(await_error(rank), ncclRemoteError, "state");
    ok(ncclCommAbort(rank.comm), "abort");
  });
}

TEST_CASE("eager: a small message leaves before it is received") {
  with_faults("eager", [](Rank& rank, int r, const ncclUniqueId& id) {
    ok(ncclCommInitRank(&rank.comm, 2, id, r), "init");
    auto buffer = rank.upload(bytes_of(std::vector<int>{r, r}));
    // Each waits for its own to have been sent.
    ok(ncclSend(pointer(buffer), 1, ncclInt32, 1 - r, rank.comm, rank.stream), "send");
    rank.synchronize();
    ok(ncclRecv(pointer(buffer + 4), 1, ncclInt32, 1 - r, rank.comm, rank.stream), "recv");
    require(values_of<int>(rank.download(buffer, 8)) == std::vector<int>{r, 1 - r}, "message");
  });
}

TEST_CASE("an unknown fault is reported") {
  with_faults("explode", [](Rank& rank, int r, const ncclUniqueId& id) {
    ok(ncclCommInitRank(&rank.comm, 2, id, r), "init");
    rank.require_fault("'explode' is not a fault");
  });
}

TEST_CASE("null mode checks arguments and does nothing else") {
  ncclUniqueId id;
  REQUIRE(ncclGetUniqueId(&id) == ncclSuccess);
  auto failures = run_ranks(2, [&](int r) {
    setenv("NCCL_EMULATOR_NULL", "1", 1);
    auto config = config_initializer();
    config.blocking = 0;
    Rank rank(r);
    ok(ncclCommInitRankConfig(&rank.comm, 2, id, r, &config), "init");
    ok(all_reduce(rank), "alone");
    rank.synchronize();
    require_result(ncclSend(nullptr, 1, ncclInt8, 0, rank.comm, rank.stream), ncclInvalidArgument, "no buffer");
  });
  CHECK(failures == "");
}

TEST_CASE("a device that breaks is the communicator's error") {
  with_faults("", [](Rank& rank, int r, const ncclUniqueId& id) {
    ok(ncclCommInitRank(&rank.comm, 2, id, r), "init");
    if (r == 1) return;
    ok(all_reduce(rank), "call");
    cuemu_break(0, CUDA_ERROR_UNKNOWN);
    require_result(await_error(rank), ncclUnhandledCudaError, "state");
    ok(ncclCommAbort(rank.comm), "abort");
  });
}
