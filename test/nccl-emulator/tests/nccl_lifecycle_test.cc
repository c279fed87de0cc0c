// How communicators are made out of others, and how they end.
#include <doctest/doctest.h>

#include <dirent.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <thread>

#include "nccl_ranks.h"

using namespace nccl_test;

namespace {

ncclUniqueId new_id() {
  ncclUniqueId id;
  REQUIRE(ncclGetUniqueId(&id) == ncclSuccess);
  return id;
}

// The sum of this value over all ranks of the communicator.
int sum(Rank& rank, ncclComm_t comm, int value) {
  auto buffer = rank.upload(bytes_of(std::vector<int>{value}));
  auto result = ncclAllReduce(pointer(buffer), pointer(buffer), 1, ncclInt32, ncclSum, comm, rank.stream);
  if (result == ncclInProgress) result = Rank::settle(comm);
  ok(result, "all-reduce");
  return values_of<int>(rank.download(buffer, 4))[0];
}

int rank_in(ncclComm_t comm) {
  int rank = -1;
  ok(ncclCommUserRank(comm, &rank), "rank");
  return rank;
}

int size_of(ncclComm_t comm) {
  int size = -1;
  ok(ncclCommCount(comm, &size), "count");
  return size;
}

bool stream_ends(const Rank& rank, std::chrono::milliseconds within) {
  auto limit = std::chrono::steady_clock::now() + within;
  while (std::chrono::steady_clock::now() < limit) {
    if (cuStreamQuery(rank.stream) == CUDA_SUCCESS) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

constexpr std::chrono::milliseconds long_enough(20'000), a_while(100);

}  // namespace

TEST_CASE("split by color and key, blocking and not") {
  for (int blocking : {1, 0}) {
    auto id = new_id();
    auto failures = run_ranks(4, [&](int r) {
      auto config = config_initializer();
      config.blocking = blocking;
      Rank rank(r, 4, id, r, &config);
      for (int round = 0; round < 3; round++) {
        int color = r % 2 == 0 ? 5 : r == 1 ? NCCL_SPLIT_NOCOLOR : 0;
        ncclComm_t child = rank.comm;
        auto result = ncclCommSplit(rank.comm, color, -r, &child, nullptr);
        require_result(result, blocking ? ncclSuccess : ncclInProgress, "split");
        ok(Rank::settle(rank.comm), "state of the parent");
        if (r == 1) {
          require(child == nullptr, "a rank without color has no communicator");
        } else {
          require(child != nullptr, "the communicator");
          require(size_of(child) == (r == 3 ? 1 : 2), "size");
          // By falling rank.
          require(rank_in(child) == (r == 0 ? 1 : 0), "rank");
          require(sum(rank, child, r + 1) == (r == 3 ? 4 : 4), "sum of the part");
          ok(ncclCommDestroy(child), "destroy the part");
        }
        require(sum(rank, rank.comm, 1) == 4, "sum of the whole");
      }
      ok(ncclCommDestroy(rank.comm), "destroy");
      Rank::require_no_fault();
    });
    CHECK(failures == "");
  }
}

TEST_CASE("shrink, with and without aborting what runs") {
  for (int flags : {0, NCCL_SHRINK_ABORT}) {
    auto id = new_id();
    auto failures = run_ranks(3, [&](int r) {
      Rank rank(r, 3, id, r);
      require(sum(rank, rank.comm, 1) == 3, "sum of the whole");
      if (r == 1) return;
      if (flags != 0) {
        // Rank 1 never comes.
        auto buffer = rank.allocate(4);
        ok(ncclAllReduce(pointer(buffer), pointer(buffer), 1, ncclInt32, ncclSum, rank.comm, rank.stream), "call");
      }
      int excluded[] = {1};
      ncclComm_t child = nullptr;
      ok(ncclCommShrink(rank.comm, excluded, 1, &child, nullptr, flags), "shrink");
      require(size_of(child) == 2 && rank_in(child) == (r == 0 ? 0 : 1), "size and rank");
      require(sum(rank, child, r + 1) == 4, "sum");
      ok(ncclCommAbort(rank.comm), "abort");
      ok(ncclCommDestroy(child), "destroy");
      Rank::require_no_fault();
    });
    CHECK(failures == "");
  }
}

TEST_CASE("grow by a rank") {
  int hands[2];
  REQUIRE(pipe(hands) == 0);
  auto id = new_id();
  auto failures = run_ranks(3, [&](int r) {
    Rank rank(r);
    ncclUniqueId grow_id;
    ncclComm_t grown = nullptr;
    if (r == 2) {
      require(read(hands[0], &grow_id, sizeof grow_id) == sizeof grow_id, "the id");
      ok(ncclCommGrow(nullptr, 3, &grow_id, 2, &grown, nullptr), "grow");
    } else {
      ok(ncclCommInitRank(&rank.comm, 2, id, r), "init");
      if (r == 0) {
        ok(ncclCommGetUniqueId(rank.comm, &grow_id), "id");
        require(write(hands[1], &grow_id, sizeof grow_id) == sizeof grow_id, "the id");
      }
      ok(ncclCommGrow(rank.comm, 3, r == 0 ? &grow_id : nullptr, -1, &grown, nullptr), "grow");
    }
    require(size_of(grown) == 3 && rank_in(grown) == r, "size and rank");
    require(sum(rank, grown, 1 << r) == 7, "sum");
    Rank::require_no_fault();
  });
  CHECK(failures == "");
}

TEST_CASE("several unique ids for one communicator") {
  ncclUniqueId ids[] = {new_id(), new_id()};
  auto failures = run_ranks(2, [&](int r) {
    Rank rank(r);
    ok(ncclCommInitRankScalable(&rank.comm, 2, r, 2, ids, nullptr), "init");
    require(sum(rank, rank.comm, 1) == 2, "sum");
    Rank::require_no_fault();
  });
  CHECK(failures == "");
}

TEST_CASE("a revoked communicator refuses ops, and can be split") {
  auto id = new_id();
  auto failures = run_ranks(2, [&](int r) {
    Rank rank(r, 2, id, r);
    auto buffer = rank.allocate(4);
    // Nobody sends.
    ok(ncclRecv(pointer(buffer), 1, ncclInt32, 1 - r, rank.comm, rank.stream), "recv");
    ok(ncclCommRevoke(rank.comm, 0), "revoke");
    require(stream_ends(rank, long_enough), "the op ends");
    Rank::require_no_fault();
    require_result(ncclRecv(pointer(buffer), 1, ncclInt32, 1 - r, rank.comm, rank.stream), ncclInvalidUsage, "recv");
    rank.require_fault("revoked");
    ncclComm_t child;
    ok(ncclCommSplit(rank.comm, 0, 0, &child, nullptr), "split");
    require(sum(rank, child, 1) == 2, "sum");
    ok(ncclCommDestroy(rank.comm), "destroy");
  });
  CHECK(failures == "");
}

TEST_CASE("abort ends this rank's ops, whose results stay poison, and its peer hangs") {
  auto id = new_id();
  int to_first[2], to_second[2];
  REQUIRE(pipe(to_first) == 0);
  REQUIRE(pipe(to_second) == 0);
  auto failures = run_ranks(2, [&](int r) {
    Rank rank(r, 2, id, r);
    auto first = rank.allocate(4), second = rank.upload(bytes_of(std::vector<int>{3}));
    char hand = 0;
    if (r == 0) {
      ok(ncclRecv(pointer(first), 1, ncclInt32, 1, rank.comm, rank.stream), "recv");
      auto hold = cuemu_hold(r, rank.stream);
      ok(ncclAllReduce(pointer(second), pointer(second), 1, ncclInt32, ncclSum, rank.comm, rank.stream), "all-reduce");
      ok(ncclCommAbort(rank.comm), "abort");
      require(cuemu_release(hold) == 0, "release");
      require(stream_ends(rank, long_enough), "both ops end");
      int poison = static_cast<int>(0xdbdbdbdb);
      require(values_of<int>(rank.download(first, 4))[0] == poison, "result of the first");
      require(values_of<int>(rank.download(second, 4))[0] == poison, "result of the second");
      Rank::require_no_fault();
      require(write(to_second[1], &hand, 1) == 1, "pipe");
      // Alive until the other is done.
      require(read(to_first[0], &hand, 1) == 1, "pipe");
    } else {
      ok(ncclAllReduce(pointer(second), pointer(second), 1, ncclInt32, ncclSum, rank.comm, rank.stream), "all-reduce");
      require(read(to_second[0], &hand, 1) == 1, "pipe");
      require(!stream_ends(rank, a_while), "the op ended without its peer");
      ncclResult_t state;
      ok(ncclCommGetAsyncError(rank.comm, &state), "async error");
      require_result(state, ncclSuccess, "state");
      ok(ncclCommAbort(rank.comm), "abort");
      require(stream_ends(rank, long_enough), "the op ends");
      require(write(to_first[1], &hand, 1) == 1, "pipe");
      Rank::require_no_fault();
    }
  });
  CHECK(failures == "");
}

TEST_CASE("abort of an op that is not in its stream yet") {
  auto id = new_id();
  auto failures = run_ranks(2, [&](int r) {
    auto config = config_initializer();
    config.blocking = 0;
    Rank rank(r, 2, id, r, &config);
    auto buffer = rank.allocate(4);
    // Nobody sends. The first op is launched late.
    auto result = ncclRecv(pointer(buffer), 1, ncclInt32, 1 - r, rank.comm, rank.stream);
    require_result(result, ncclInProgress, "recv");
    ok(ncclCommAbort(rank.comm), "abort");
    require(stream_ends(rank, long_enough), "the op ends");
    Rank::require_no_fault();
  });
  CHECK(failures == "");
}

TEST_CASE("abort of a communicator that waits for its ranks") {
  auto failures = run_ranks(1, [&](int) {
    Rank rank(0);
    ncclUniqueId id;
    ok(ncclGetUniqueId(&id), "id");
    auto config = config_initializer();
    config.blocking = 0;
    require_result(ncclCommInitRankConfig(&rank.comm, 2, id, 0, &config), ncclInProgress, "init");
    ncclResult_t state;
    ok(ncclCommGetAsyncError(rank.comm, &state), "async error");
    require_result(state, ncclInProgress, "state");
    ok(ncclCommAbort(rank.comm), "abort");
    Rank::require_no_fault();
  });
  CHECK(failures == "");
}

TEST_CASE("the end of a peer's process is a remote error after a while, and the op hangs until the abort") {
  auto id = new_id();
  auto failures = run_ranks(
      3,
      [&](int r) {
        Rank rank(r, 3, id, r);
        require(sum(rank, rank.comm, 1) == 3, "sum");
        if (r == 1) kill(getpid(), SIGKILL);
        auto buffer = rank.upload(bytes_of(std::vector<int>(100'000, 1)));
        ok(ncclAllReduce(pointer(buffer), pointer(buffer), 100'000, ncclInt32, ncclSum, rank.comm, rank.stream), "sum");
        ncclResult_t state = ncclSuccess;
        auto limit = std::chrono::steady_clock::now() + long_enough;
        while (state == ncclSuccess && std::chrono::steady_clock::now() < limit) {
          ok(ncclCommGetAsyncError(rank.comm, &state), "async error");
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        require_result(state, ncclRemoteError, "state");
        require(cuStreamQuery(rank.stream) == CUDA_ERROR_NOT_READY, "the op hangs");
        require_result(ncclCommDestroy(rank.comm), ncclRemoteError, "destroy");
        ok(ncclCommAbort(rank.comm), "abort");
        require(stream_ends(rank, long_enough), "the op ends");
        Rank::require_no_fault();
      },
      {1});
  CHECK(failures == "");
}

TEST_CASE("a peer that dies while communicators are made") {
  auto id = new_id();
  auto failures = run_ranks(2,
                            [&](int r) {
                              Rank rank(r, 2, id, r);
                              if (r == 1) kill(getpid(), SIGKILL);
                              ncclComm_t child;
                              require_result(ncclCommSplit(rank.comm, 0, 0, &child, nullptr), ncclRemoteError, "split");
                              ncclComm_t shrunk;
                              int excluded[] = {1};
                              ok(ncclCommShrink(rank.comm, excluded, 1, &shrunk, nullptr, 0), "shrink");
                              require(size_of(shrunk) == 1, "size");
                            },
                            {1});
  CHECK(failures == "");
}

TEST_CASE("processes that end in the middle of everything leave nothing behind") {
  auto shm_entries = [] {
    int count = 0;
    DIR* folder = opendir("/dev/shm");
    for (dirent* entry; folder && (entry = readdir(folder));)
      if (std::string(entry->d_name).find("nccl") != std::string::npos) count++;
    if (folder) closedir(folder);
    return count;
  };
  int before = shm_entries();
  for (int round = 0; round < 10; round++) {
    auto id = new_id();
    auto failures = run_ranks(2,
                              [&](int r) {
                                std::thread([round] {
                                  std::this_thread::sleep_for(std::chrono::microseconds(round * 700));
                                  kill(getpid(), SIGKILL);
                                }).detach();
                                Rank rank(r, 2, id, r);
                                for (;;) sum(rank, rank.comm, 1);
                              },
                              {0, 1});
    CHECK(failures == "");
  }
  CHECK(shm_entries() == before);
}

TEST_CASE("a process exits as usual while an op hangs") {
  auto id = new_id();
  auto failures = run_ranks(2, [&](int r) {
    // Not by the harness, whose ranks skip what runs at exit.
    pid_t pid = fork();
    if (pid == 0) {
      try {
        Rank rank(r, 2, id, r);
        auto buffer = rank.allocate(4);
        ok(ncclRecv(pointer(buffer), 1, ncclInt32, 1 - r, rank.comm, rank.stream), "recv");
        while (cuStreamQuery(rank.stream) == CUDA_SUCCESS) std::this_thread::yield();
      } catch (const std::exception&) {
        exit(9);
      }
      exit(7);
    }
    int status = 0;
    require(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7,
            "status " + std::to_string(status));
  });
  CHECK(failures == "");
}

TEST_CASE("a communicator gives back descriptors and memory at its end") {
  auto failures = run_ranks(1, [&](int) {
    Rank rank(0);
    auto count = [](const char* path) {
      int entries = 0;
      std::string line;
      std::ifstream maps(path);
      while (std::getline(maps, line)) entries += line.find("memfd:nccl-emulator (") != std::string::npos ? 1 : 0;
      return entries;
    };
    auto descriptors = [] {
      int entries = 0;
      DIR* folder = opendir("/proc/self/fd");
      while (readdir(folder)) entries++;
      closedir(folder);
      return entries;
    };
    int before = 0;
    for (int i = 0; i < 20; i++) {
      ncclUniqueId id;
      ok(ncclGetUniqueId(&id), "id");
      ok(ncclCommInitRank(&rank.comm, 1, id, 0), "init");
      ok(i % 2 == 0 ? ncclCommDestroy(rank.comm) : ncclCommAbort(rank.comm), "end");
      if (i == 0) before = descriptors();
    }
    require(descriptors() == before, std::to_string(descriptors()) + " descriptors");
    require(count("/proc/self/maps") <= 1, std::to_string(count("/proc/self/maps")) + " mappings");
  });
  CHECK(failures == "");
}
