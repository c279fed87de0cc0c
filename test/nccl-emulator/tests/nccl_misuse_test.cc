// What a program must not do: the result that it gets, and that the fault is recorded.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "nccl_ranks.h"

using namespace nccl_test;

namespace {

ncclUniqueId new_id() {
  ncclUniqueId id;
  REQUIRE(ncclGetUniqueId(&id) == ncclSuccess);
  return id;
}

// One rank alone, in a process of its own.
void alone(const std::function<void(Rank&)>& body, ncclConfig_t* config = nullptr) {
  auto id = new_id();
  auto failures = run_ranks(1, [&](int) {
    Rank rank(0, 1, id, 0, config);
    body(rank);
  });
  CHECK(failures == "");
}

ncclResult_t all_reduce(const Rank& rank, uint64_t in, uint64_t out, size_t count) {
  return ncclAllReduce(pointer(in), pointer(out), count, ncclFloat32, ncclSum, rank.comm, rank.stream);
}

}  // namespace

TEST_CASE("a unique id serves one communicator") {
  auto id = new_id();
  auto failures = run_ranks(2, [&](int r) {
    Rank rank(r, 2, id, r);
    ncclComm_t again;
    require_result(ncclCommInitRank(&again, 2, id, r), ncclInvalidUsage, "second init");
    require(again == nullptr, "no communicator");
    rank.require_fault("unique id");
  });
  CHECK(failures == "");
}

TEST_CASE("the ranks have the same size and ids of NCCL") {
  auto failures = run_ranks(1, [&](int) {
    Rank rank(0);
    ncclUniqueId nothing{};
    require_result(ncclCommInitRank(&rank.comm, 1, nothing, 0), ncclInvalidArgument, "init");
    rank.require_fault("unique id");
    ncclUniqueId id;
    ok(ncclGetUniqueId(&id), "id");
    for (int bad : {-1, 2}) {
      require_result(ncclCommInitRank(&rank.comm, 2, id, bad), ncclInvalidArgument, "rank");
      require(std::string(ncclGetLastError(nullptr)).find("Invalid rank requested") == 0, "text");
    }
  });
  CHECK(failures == "");
}

TEST_CASE("two ranks on one device") {
  for (const char* enabled : {"0", "1"}) {
    auto id = new_id();
    auto failures = run_ranks(2, [&](int r) {
      setenv("NCCL_MULTI_RANK_GPU_ENABLE", enabled, 1);
      Rank rank(0);
      auto result = ncclCommInitRank(&rank.comm, 2, id, r);
      require_result(result, *enabled == '1' ? ncclSuccess : ncclInvalidUsage, "init");
      if (*enabled == '0')
        require(std::string(ncclGetLastError(nullptr)).find("using the same GPU") != std::string::npos, "text");
      Rank::require_no_fault();
    });
    CHECK(failures == "");
  }
  auto id = new_id();
  auto failures = run_ranks(2, [&](int r) {
    setenv("NCCL_HOSTID", r == 0 ? "first" : "second", 1);
    Rank rank(0, 2, id, r);
  });
  CHECK(failures == "");
}

TEST_CASE("a communicator in progress") {
  auto id = new_id();
  auto failures = run_ranks(2, [&](int r) {
    setenv("NCCL_EMULATOR_FAULTS", "slow-init=300", 1);
    Rank rank(r);
    auto config = config_initializer();
    config.blocking = 0;
    require_result(ncclCommInitRankConfig(&rank.comm, 2, id, r, &config), ncclInProgress, "init");
    int count = 0;
    require_result(ncclCommCount(rank.comm, &count), ncclInvalidArgument, "count");
    rank.require_fault("before the previous operation returned ncclSuccess");
    auto buffer = rank.allocate(4);
    require_result(all_reduce(rank, buffer, buffer, 1), ncclInvalidArgument, "all-reduce");
    rank.require_fault("before the previous operation returned ncclSuccess");
    ncclComm_t child;
    require_result(ncclCommSplit(rank.comm, 0, 0, &child, nullptr), ncclInvalidArgument, "split");
    rank.require_fault("ncclCommSplit");
    require_result(ncclCommDestroy(rank.comm), ncclInvalidArgument, "destroy");
    rank.require_fault("ncclCommDestroy");
    ok(Rank::settle(rank.comm), "state");
    // The first op of such a communicator is in progress too.
    require_result(all_reduce(rank, buffer, buffer, 1), ncclInProgress, "all-reduce");
    ok(Rank::settle(rank.comm), "state");
    rank.synchronize();
    ok(ncclCommDestroy(rank.comm), "destroy");
  });
  CHECK(failures == "");
}

TEST_CASE("buffers") {
  alone([](Rank& rank) {
    auto buffer = rank.allocate(400);
    std::vector<float> host(100);
    require_result(all_reduce(rank, reinterpret_cast<uint64_t>(host.data()), buffer, 100), ncclInvalidArgument, "host");
    rank.require_fault("not a valid pointer");
    require_result(all_reduce(rank, buffer, 0, 100), ncclInvalidArgument, "null");
    rank.require_fault("not a valid pointer");
    require_result(all_reduce(rank, buffer, buffer, 101), ncclInvalidArgument, "too long");
    rank.require_fault("404 bytes");
    Rank other(1);
    auto foreign = other.allocate(400);
    Rank back(0);
    require_result(all_reduce(rank, buffer, foreign, 100), ncclInvalidArgument, "other device");
    rank.require_fault("allocated on device 1");
    ok(all_reduce(rank, 0, 0, 0), "nothing");
  });
}

TEST_CASE("memory that is freed before its stream comes to the op") {
  auto id = new_id();
  auto failures = run_ranks(1, [&](int) {
    setenv("NCCL_EMULATOR_FREE_WAIT_MS", "20", 1);
    Rank rank(0, 1, id, 0);
    auto buffer = rank.allocate(400);
    auto hold = cuemu_hold(0, rank.stream);
    ok(all_reduce(rank, buffer, buffer, 100), "all-reduce");
    static_cast<void>(cuMemFree_v2(buffer));
    rank.require_fault("ncclAllReduce");
    static_cast<void>(cuemu_release(hold));
  });
  CHECK(failures == "");
}

TEST_CASE("device and stream are the communicator's") {
  alone([](Rank& rank) {
    auto buffer = rank.allocate(4);
    Rank other(1);
    require_result(all_reduce(rank, buffer, buffer, 1), ncclInvalidUsage, "current device");
    rank.require_fault("current device is 1");
    Rank back(0);
    require_result(ncclAllReduce(pointer(buffer), pointer(buffer), 1, ncclFloat32, ncclSum, rank.comm, other.stream),
                   ncclInvalidArgument, "stream");
    rank.require_fault("stream");
    cuda_ok(cuCtxSetCurrent(nullptr), "no context");
    require_result(all_reduce(rank, buffer, buffer, 1), ncclInvalidUsage, "no device");
    rank.require_fault("current device is -1");
    ncclUniqueId id;
    ok(ncclGetUniqueId(&id), "id");
    ncclComm_t comm;
    require_result(ncclCommInitRank(&comm, 1, id, 0), ncclInvalidUsage, "init");
    rank.require_fault("no current context");
  });
}

TEST_CASE("arguments") {
  alone([](Rank& rank) {
    auto buffer = rank.allocate(400);
    auto* p = pointer(buffer);
    auto text = [] { return std::string(ncclGetLastError(nullptr)); };
    for (int root : {-1, 1}) {
      require_result(ncclBroadcast(p, p, 1, ncclInt8, root, rank.comm, rank.stream), ncclInvalidArgument, "root");
      require(text() == "Broadcast : invalid root " + std::to_string(root) + " (root should be in the 0..1 range)",
              text());
    }
    auto dtype = static_cast<ncclDataType_t>(12);
    require_result(ncclAllGather(p, p, 1, dtype, rank.comm, rank.stream), ncclInvalidArgument, "dtype");
    require(text() == "AllGather : invalid type 12", text());
    auto op = static_cast<ncclRedOp_t>(77);
    require_result(ncclAllReduce(p, p, 1, ncclInt8, op, rank.comm, rank.stream), ncclInvalidArgument, "op");
    require(text() == "AllReduce : reduction operation 77 unknown to this communicator", text());
    require_result(ncclAllReduce(p, p, 1, ncclInt8, ncclSum, nullptr, rank.stream), ncclInvalidArgument, "comm");
    require(text() == "AllReduce : comm argument is NULL", text());
    float factor = 2;
    ok(ncclRedOpCreatePreMulSum(&op, &factor, ncclFloat32, ncclScalarHostImmediate, rank.comm), "create");
    require_result(ncclAllReduce(p, p, 1, ncclFloat64, op, rank.comm, rank.stream), ncclInvalidArgument, "its dtype");
    require_result(ncclRedOpDestroy(ncclSum, rank.comm), ncclInvalidArgument, "destroy what is built in");
    ok(ncclRedOpDestroy(op, rank.comm), "destroy");
    require_result(ncclRedOpDestroy(op, rank.comm), ncclInvalidArgument, "destroy twice");
    require_result(ncclCommRegister(rank.comm, &factor, 4, &p), ncclInvalidArgument, "registration");
    rank.require_fault("ncclCommRegister");
  });
}

TEST_CASE("freeing memory that is registered") {
  alone([](Rank& rank) {
    for (const bool window : {false, true}) {
      for (const bool ends : {true, false}) {
        void* memory = nullptr;
        void* handle = nullptr;
        ncclWindow_t opened = nullptr;
        ok(ncclMemAlloc(&memory, 64), "allocation");
        if (window) {
          ok(ncclCommWindowRegister(rank.comm, memory, 64, &opened, 0), "window");
          if (ends) ok(ncclCommWindowDeregister(rank.comm, opened), "end of the window");
        } else {
          ok(ncclCommRegister(rank.comm, memory, 64, &handle), "registration");
          if (ends) ok(ncclCommDeregister(rank.comm, handle), "end of the registration");
        }
        const auto before = cuemu_faults();
        ok(ncclMemFree(memory), "free");
        if (!ends) {
          rank.require_fault("freed while they are registered");
        } else {
          require(cuemu_faults() == before, "a fault");
        }
      }
    }
  });
}

TEST_CASE("a communicator after its end") {
  alone([](Rank& rank) {
    auto buffer = rank.allocate(4);
    ok(ncclCommFinalize(rank.comm), "finalize");
    require_result(all_reduce(rank, buffer, buffer, 1), ncclInvalidUsage, "after finalize");
    rank.require_fault("finalized");
    require_result(ncclCommFinalize(rank.comm), ncclInvalidArgument, "second finalize");
    rank.require_fault("finalized");
    ok(ncclCommDestroy(rank.comm), "destroy");
    require_result(ncclCommDestroy(rank.comm), ncclInvalidArgument, "second destroy");
    rank.require_fault("already been destroyed");
    require_result(all_reduce(rank, buffer, buffer, 1), ncclInvalidArgument, "after destroy");
    rank.require_fault("already been destroyed");
  });
}

TEST_CASE("groups") {
  alone([](Rank& rank) {
    require_result(ncclGroupEnd(), ncclInvalidUsage, "end without start");
    rank.require_fault("not in a group call");
    auto buffer = rank.allocate(4);
    ok(ncclGroupStart(), "start");
    ok(all_reduce(rank, buffer, buffer, 1), "all-reduce");
    ok(ncclCommAbort(rank.comm), "abort");
    rank.require_fault("in a group that holds ops");
    std::thread([] { ok(ncclGroupStart(), "start"); }).join();
    rank.require_fault("a thread ends between");
  });
}

TEST_CASE("blocking communicators and others in one group") {
  auto failures = run_ranks(1, [&](int) {
    ncclUniqueId ids[2];
    for (auto& id : ids) ok(ncclGetUniqueId(&id), "id");
    auto config = config_initializer();
    config.blocking = 0;
    Rank blocking(0, 1, ids[0], 0), other(0, 1, ids[1], 0, &config);
    auto buffer = other.allocate(4);
    ok(ncclGroupStart(), "start");
    ok(all_reduce(blocking, buffer, buffer, 1), "all-reduce");
    static_cast<void>(all_reduce(other, buffer, buffer, 1));
    require_result(ncclGroupEnd(), ncclInvalidArgument, "end");
    other.require_fault("not allowed in the same group");
  });
  CHECK(failures == "");
}

TEST_CASE("two threads in calls of one communicator, one of them an abort") {
  auto failures = run_ranks(1, [&](int) {
    Rank rank(0);
    ncclUniqueId id;
    ok(ncclGetUniqueId(&id), "id");
    // It blocks, since the other rank never comes.
    std::atomic<ncclComm_t> comm{nullptr};
    std::thread blocked([&] {
      Rank own(0);
      ok(ncclCommInitRank(&rank.comm, 1, id, 0), "init");
      comm = rank.comm;
      auto hold = cuemu_hold(0, own.stream);
      auto buffer = own.allocate(4);
      ok(ncclAllReduce(pointer(buffer), pointer(buffer), 1, ncclInt8, ncclSum, rank.comm, own.stream), "all-reduce");
      // Waits for the op, which the stream holds up.
      static_cast<void>(ncclCommFinalize(rank.comm));
      static_cast<void>(cuemu_release(hold));
    });
    while (!comm) std::this_thread::yield();
    // Until the thread is inside the call that waits. It may be found in one before that, too.
    while (last_fault().find("CommCount is called while another thread is inside ncclCommFinalize") ==
           std::string::npos) {
      int count;
      ok(ncclCommCount(comm, &count), "count");
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ok(ncclCommAbort(comm), "abort");
    require(last_fault().find("ncclCommAbort is called while another thread is inside ncclCommFinalize") !=
                std::string::npos,
            last_fault());
    blocked.join();
  });
  CHECK(failures == "");
}

TEST_CASE("an abort while another thread waits for the ranks of the communicator") {
  auto failures = run_ranks(1, [&](int) {
    Rank rank(0);
    ncclUniqueId id;
    ok(ncclGetUniqueId(&id), "id");
    std::thread blocked([&] {
      Rank own(0);
      // The other rank never comes.
      require_result(ncclCommInitRank(&rank.comm, 2, id, 0), ncclInternalError, "init");
    });
    // The handle is there as soon as the call waits.
    auto handle = [&] { return __atomic_load_n(&rank.comm, __ATOMIC_ACQUIRE); };
    while (!handle()) std::this_thread::yield();
    while (cuemu_faults() == 0) ok(ncclCommWindowDeregister(handle(), nullptr), "nothing");
    ok(ncclCommAbort(handle()), "abort");
    rank.require_fault("ncclCommAbort is called while another thread is inside");
    blocked.join();
  });
  CHECK(failures == "");
}

TEST_CASE("a communicator that does not block ends with a refused call") {
  auto config = config_initializer();
  config.blocking = 0;
  alone(
      [](Rank& rank) {
        auto buffer = rank.allocate(4);
        auto* p = pointer(buffer);
        require_result(ncclBroadcast(p, p, 1, ncclInt8, 5, rank.comm, rank.stream), ncclInvalidArgument, "root");
        require_result(Rank::settle(rank.comm), ncclInvalidArgument, "state");
        require_result(all_reduce(rank, buffer, buffer, 1), ncclInvalidArgument, "next");
        ok(ncclCommAbort(rank.comm), "abort");
        Rank::require_no_fault();
      },
      &config);
}

TEST_CASE("ranks that call different ops hang") {
  struct Difference {
    const char* name;
    std::function<void(Rank&, int, void*)> call;
  };
  const std::vector<Difference> differences{
      {"kind",
       [](Rank& rank, int r, void* p) {
         if (r == 0)
           ok(ncclAllReduce(p, p, 8, ncclInt32, ncclSum, rank.comm, rank.stream), "call");
         else
           ok(ncclBroadcast(p, p, 8, ncclInt32, 1, rank.comm, rank.stream), "call");
       }},
      {"count",
       [](Rank& rank, int r, void* p) {
         ok(ncclAllReduce(p, p, r == 0 ? 8 : 4, ncclInt32, ncclSum, rank.comm, rank.stream), "call");
       }},
      {"dtype",
       [](Rank& rank, int r, void* p) {
         ok(ncclAllReduce(p, p, 8, r == 0 ? ncclInt32 : ncclFloat32, ncclSum, rank.comm, rank.stream), "call");
       }},
      {"reduction",
       [](Rank& rank, int r, void* p) {
         ok(ncclAllReduce(p, p, 8, ncclInt32, r == 0 ? ncclSum : ncclMax, rank.comm, rank.stream), "call");
       }},
      {"root",
       [](Rank& rank, int r, void* p) { ok(ncclBroadcast(p, p, 8, ncclInt32, r, rank.comm, rank.stream), "call"); }},
      {"message",
       [](Rank& rank, int r, void* p) {
         if (r == 0)
           ok(ncclSend(p, 8, ncclInt32, 1, rank.comm, rank.stream), "call");
         else
           ok(ncclRecv(p, 4, ncclInt32, 0, rank.comm, rank.stream), "call");
       }},
  };
  for (auto& difference : differences) {
    CAPTURE(difference.name);
    auto id = new_id();
    auto failures = run_ranks(2, [&](int r) {
      Rank rank(r, 2, id, r);
      auto* p = pointer(rank.allocate(64));
      difference.call(rank, r, p);
      for (int i = 0; i < 50; i++) {
        require(cuStreamQuery(rank.stream) == CUDA_ERROR_NOT_READY, "the op ended");
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      ok(ncclCommAbort(rank.comm), "abort");
      rank.synchronize();
      Rank::require_no_fault();
    });
    CHECK(failures == "");
  }
}
