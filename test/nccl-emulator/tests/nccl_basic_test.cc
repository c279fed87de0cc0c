// The ways of a call: blocking and not, in groups, on several streams, in several threads of a process.
#include <doctest/doctest.h>

#include <thread>

#include "nccl_ranks.h"

using namespace nccl_test;

namespace {

ncclUniqueId new_id() {
  ncclUniqueId id;
  REQUIRE(ncclGetUniqueId(&id) == ncclSuccess);
  return id;
}

void all_reduce_ones(Rank& rank, int ranks) {
  std::vector<float> ones(1000, 1.0F);
  auto buffer = rank.upload(bytes_of(ones));
  auto result = ncclAllReduce(pointer(buffer), pointer(buffer), 1000, ncclFloat32, ncclSum, rank.comm, rank.stream);
  if (result == ncclInProgress) result = Rank::settle(rank.comm);
  ok(result, "all-reduce");
  auto sums = values_of<float>(rank.download(buffer, 4000));
  for (float sum : sums) require(sum == static_cast<float>(ranks), "sum " + std::to_string(sum));
}

}  // namespace

TEST_CASE("the library names itself") {
  int version = 0;
  REQUIRE(ncclGetVersion(&version) == ncclSuccess);
  CHECK(version == 23007);
  CHECK(std::string(ncclemu_name()) == "NCCL emulator 2.30.7 (not NVIDIA's library)");
}

TEST_CASE("blocking communicators of 1, 2 and 4 processes") {
  for (int ranks : {1, 2, 4}) {
    auto id = new_id();
    auto failures = run_ranks(ranks, [&](int r) {
      Rank rank(r, ranks, id, r);
      int count = 0, own = -1, device = -1;
      ok(ncclCommCount(rank.comm, &count), "count");
      ok(ncclCommUserRank(rank.comm, &own), "rank");
      ok(ncclCommCuDevice(rank.comm, &device), "device");
      require(count == ranks && own == r && device == r, "what the communicator says of itself");
      for (int i = 0; i < 5; i++) all_reduce_ones(rank, ranks);
      ok(ncclCommFinalize(rank.comm), "finalize");
      ok(ncclCommDestroy(rank.comm), "destroy");
      Rank::require_no_fault();
    });
    CHECK(failures == "");
  }
}

TEST_CASE("communicators that do not block") {
  auto id = new_id();
  auto failures = run_ranks(2, [&](int r) {
    Rank rank(r);
    auto config = config_initializer();
    config.blocking = 0;
    require_result(ncclCommInitRankConfig(&rank.comm, 2, id, r, &config), ncclInProgress, "init");
    ok(Rank::settle(rank.comm), "state after init");
    for (int i = 0; i < 20; i++) all_reduce_ones(rank, 2);
    require_result(ncclCommFinalize(rank.comm), ncclInProgress, "finalize");
    ok(Rank::settle(rank.comm), "state after finalize");
    ok(ncclCommDestroy(rank.comm), "destroy");
    Rank::require_no_fault();
  });
  CHECK(failures == "");
}

TEST_CASE("ranks in threads of one process") {
  auto id = new_id();
  auto failures = run_ranks(1, [&](int) {
    std::vector<std::thread> threads;
    std::vector<std::string> texts(3);
    for (int r = 0; r < 3; r++)
      threads.emplace_back([&, r] {
        try {
          Rank rank(r, 3, id, r);
          all_reduce_ones(rank, 3);
          ok(ncclCommDestroy(rank.comm), "destroy");
        } catch (const std::exception& error) {
          texts[static_cast<size_t>(r)] = error.what();
        }
      });
    for (auto& thread : threads) thread.join();
    for (auto& text : texts) require(text.empty(), text);
    Rank::require_no_fault();
  });
  CHECK(failures == "");
}
