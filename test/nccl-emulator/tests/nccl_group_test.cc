// Groups, messages, and the order of streams.
#include <doctest/doctest.h>
#include <unistd.h>

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

std::vector<int> ints(int value, size_t count) { return std::vector<int>(count, value); }

void require_ints(Rank& rank, uint64_t address, int value, size_t count, const std::string& what) {
  auto got = values_of<int>(rank.download(address, count * 4));
  require(got == ints(value, count), what + ": " + std::to_string(got[0]) + " instead of " + std::to_string(value));
}

constexpr int poison = static_cast<int>(0xdbdbdbdb);

// Device memory as it is at this moment, while a stream may write it.
__attribute__((no_sanitize("thread"))) int peek(const Rank& rank, uint64_t address) {
  return *static_cast<const volatile int*>(cuemu_alias(rank.device, address, 4));
}

void until(const std::function<bool()>& condition, const std::string& what) {
  auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    require(std::chrono::steady_clock::now() < limit, "waited in vain: " + what);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace

TEST_CASE("messages in a group go both ways, whatever their size and order") {
  auto id = new_id();
  auto failures = run_ranks(4, [&](int r) {
    Rank rank(r, 4, id, r);
    for (size_t count : {size_t{1}, size_t{100}, size_t{100'000}}) {
      auto out = rank.upload(bytes_of(ints(r + 10, count)));
      std::vector<uint64_t> in;
      for (int peer = 0; peer < 4; peer++) in.push_back(rank.allocate(count * 4));
      ok(ncclGroupStart(), "group start");
      // To itself too. Ranks name their peers in different orders.
      for (int i = 0; i < 4; i++) {
        int to = (r + i) % 4, from = (r + 4 - i * (r % 2 == 0 ? 1 : 3) % 4) % 4;
        ok(ncclSend(pointer(out), count, ncclInt32, to, rank.comm, rank.stream), "send");
        ok(ncclRecv(pointer(in[static_cast<size_t>(from)]), count, ncclInt32, from, rank.comm, rank.stream), "recv");
      }
      ok(ncclGroupEnd(), "group end");
      for (int peer = 0; peer < 4; peer++)
        require_ints(rank, in[static_cast<size_t>(peer)], peer + 10, count, "message of " + std::to_string(peer));
    }
    Rank::require_no_fault();
  });
  CHECK(failures == "");
}

TEST_CASE("messages between two ranks keep their order") {
  auto id = new_id();
  auto failures = run_ranks(2, [&](int r) {
    Rank rank(r, 2, id, r);
    std::vector<uint64_t> buffers;
    for (int i = 0; i < 10; i++) buffers.push_back(rank.upload(bytes_of(ints(r == 0 ? i : -1, 50))));
    for (auto buffer : buffers) {
      if (r == 0)
        ok(ncclSend(pointer(buffer), 50, ncclInt32, 1, rank.comm, rank.stream), "send");
      else
        ok(ncclRecv(pointer(buffer), 50, ncclInt32, 0, rank.comm, rank.stream), "recv");
    }
    for (int i = 0; i < 10; i++) require_ints(rank, buffers[static_cast<size_t>(i)], i, 50, "message");
    Rank::require_no_fault();
  });
  CHECK(failures == "");
}

TEST_CASE("a message is sent when it is received, and its output is poison until then") {
  auto id = new_id();
  int go[2];
  REQUIRE(pipe(go) == 0);
  auto failures = run_ranks(2, [&](int r) {
    Rank rank(r, 2, id, r);
    auto first = rank.upload(bytes_of(ints(r + 1, 4)));
    auto second = rank.upload(bytes_of(ints(r + 5, 4)));
    if (r == 0) {
      ok(ncclSend(pointer(first), 4, ncclInt32, 1, rank.comm, rank.stream), "send");
      auto side = rank.new_stream();
      // Behind the send, though on another stream: ops of a communicator run in the order of the calls.
      ok(ncclRecv(pointer(second), 4, ncclInt32, 1, rank.comm, side), "recv");
      until([&] { return peek(rank, second) == poison; }, "the poison");
      require(cuStreamQuery(rank.stream) == CUDA_ERROR_NOT_READY, "a message was sent without a receiver");
      require(cuStreamQuery(side) == CUDA_ERROR_NOT_READY, "a message was received before it was sent");
      require(write(go[1], "", 1) == 1, "pipe");
      cuda_ok(cuStreamSynchronize(side), "synchronize");
      require_ints(rank, second, 6, 4, "message");
    } else {
      char byte;
      require(read(go[0], &byte, 1) == 1, "pipe");
      ok(ncclRecv(pointer(first), 4, ncclInt32, 0, rank.comm, rank.stream), "recv");
      ok(ncclSend(pointer(second), 4, ncclInt32, 0, rank.comm, rank.stream), "send");
      require_ints(rank, first, 1, 4, "message");
    }
    Rank::require_no_fault();
  });
  CHECK(failures == "");
}

TEST_CASE("the input of an op is read when its stream comes to it") {
  auto id = new_id();
  auto failures = run_ranks(2, [&](int r) {
    Rank rank(r, 2, id, r);
    auto in = rank.upload(bytes_of(ints(1, 100)));
    auto out = rank.allocate(400);
    auto hold = cuemu_hold(r, rank.stream);
    ok(ncclAllReduce(pointer(in), pointer(out), 100, ncclInt32, ncclSum, rank.comm, rank.stream), "all-reduce");
    rank.write(in, bytes_of(ints(20, 100)));
    require(cuemu_release(hold) == 0, "release");
    require_ints(rank, out, 40, 100, "sum");
    Rank::require_no_fault();
  });
  CHECK(failures == "");
}

TEST_CASE("a group of collectives and messages on several streams and communicators") {
  auto id = new_id(), other_id = new_id();
  auto failures = run_ranks(2, [&](int r) {
    Rank rank(r, 2, id, r);
    ncclComm_t other;
    ok(ncclCommInitRank(&other, 2, other_id, r), "init");
    auto side = rank.new_stream();
    for (int round = 0; round < 10; round++) {
      auto a = rank.upload(bytes_of(ints(r + 1, 300)));
      auto b = rank.upload(bytes_of(ints(r + 5, 300)));
      auto c = rank.allocate(1200);
      auto d = rank.upload(bytes_of(ints(r, 300)));
      ok(ncclGroupStart(), "start");
      ok(ncclAllReduce(pointer(a), pointer(a), 300, ncclInt32, ncclSum, rank.comm, rank.stream), "all-reduce");
      ok(ncclGroupStart(), "inner start");
      ok(ncclSend(pointer(b), 300, ncclInt32, 1 - r, rank.comm, side), "send");
      ok(ncclRecv(pointer(c), 300, ncclInt32, 1 - r, rank.comm, side), "recv");
      ok(ncclGroupEnd(), "inner end");
      ok(ncclBroadcast(pointer(d), pointer(d), 300, ncclInt32, 1, other, side), "broadcast");
      ok(ncclGroupEnd(), "end");
      require_ints(rank, a, 3, 300, "sum");
      cuda_ok(cuStreamSynchronize(side), "synchronize");
      require_ints(rank, c, 1 - r + 5, 300, "message");
      require_ints(rank, d, 1, 300, "broadcast");
    }
    Rank::require_no_fault();
  });
  CHECK(failures == "");
}

TEST_CASE("ops of different communicators do not wait for each other") {
  auto id = new_id(), other_id = new_id();
  auto failures = run_ranks(2, [&](int r) {
    Rank rank(r, 2, id, r);
    ncclComm_t other;
    ok(ncclCommInitRank(&other, 2, other_id, r), "init");
    auto side = rank.new_stream();
    auto a = rank.upload(bytes_of(ints(1, 10))), b = rank.upload(bytes_of(ints(2, 10)));
    auto first = r == 0 ? rank.comm : other, second = r == 0 ? other : rank.comm;
    auto first_buffer = r == 0 ? a : b, second_buffer = r == 0 ? b : a;
    ok(ncclAllReduce(pointer(first_buffer), pointer(first_buffer), 10, ncclInt32, ncclSum, first, rank.stream), "1");
    ok(ncclAllReduce(pointer(second_buffer), pointer(second_buffer), 10, ncclInt32, ncclSum, second, side), "2");
    cuda_ok(cuStreamSynchronize(side), "synchronize");
    require_ints(rank, a, 2, 10, "first");
    require_ints(rank, b, 4, 10, "second");
    Rank::require_no_fault();
  });
  CHECK(failures == "");
}

TEST_CASE("a group with a refused call begins nothing") {
  auto id = new_id();
  auto failures = run_ranks(1, [&](int) {
    Rank rank(0, 1, id, 0);
    auto buffer = rank.upload(bytes_of(ints(7, 4))), result = rank.upload(bytes_of(ints(9, 4)));
    ok(ncclGroupStart(), "start");
    ok(ncclAllReduce(pointer(buffer), pointer(result), 4, ncclInt32, ncclSum, rank.comm, rank.stream), "all-reduce");
    auto refused = ncclBroadcast(pointer(buffer), pointer(buffer), 4, ncclInt32, 1, rank.comm, rank.stream);
    require_result(refused, ncclInvalidArgument, "root out of range");
    require_result(ncclGroupEnd(), ncclInvalidArgument, "end");
    require_ints(rank, result, 9, 4, "what was not begun");
    ok(ncclAllReduce(pointer(buffer), pointer(result), 4, ncclInt32, ncclSum, rank.comm, rank.stream), "afterwards");
    require_ints(rank, result, 7, 4, "sum");
    ncclSimInfo_t info{sizeof info, NCCL_SIM_INFO_MAGIC, 23007, -1};
    ok(ncclGroupStart(), "start");
    ok(ncclAllReduce(pointer(buffer), pointer(buffer), 4, ncclInt32, ncclSum, rank.comm, rank.stream), "all-reduce");
    ok(ncclGroupSimulateEnd(&info), "simulated end");
    require(info.estimatedTime > 0, "estimated time");
    Rank::require_no_fault();
  });
  CHECK(failures == "");
}

TEST_CASE("one thread makes the communicators of several devices in a group") {
  auto id = new_id();
  auto failures = run_ranks(1, [&](int) {
    std::vector<Rank> ranks;
    for (int device = 0; device < 3; device++) ranks.emplace_back(device);
    auto on = [](int device) {
      CUcontext context;
      cuda_ok(cuDevicePrimaryCtxRetain(&context, device), "retain");
      cuda_ok(cuCtxSetCurrent(context), "current");
    };
    ok(ncclGroupStart(), "start");
    for (int device = 0; device < 3; device++) {
      on(device);
      ok(ncclCommInitRank(&ranks[static_cast<size_t>(device)].comm, 3, id, device), "init");
    }
    ok(ncclGroupEnd(), "end");
    std::vector<uint64_t> buffers;
    for (int device = 0; device < 3; device++) {
      on(device);
      buffers.push_back(ranks[static_cast<size_t>(device)].upload(bytes_of(ints(device, 5))));
    }
    ok(ncclGroupStart(), "start");
    for (int device = 0; device < 3; device++) {
      on(device);
      auto& rank = ranks[static_cast<size_t>(device)];
      auto* buffer = pointer(buffers[static_cast<size_t>(device)]);
      ok(ncclAllReduce(buffer, buffer, 5, ncclInt32, ncclSum, rank.comm, rank.stream), "all-reduce");
    }
    ok(ncclGroupEnd(), "end");
    for (int device = 0; device < 3; device++) {
      on(device);
      require_ints(ranks[static_cast<size_t>(device)], buffers[static_cast<size_t>(device)], 3, 5, "sum");
    }
    Rank::require_no_fault();
  });
  CHECK(failures == "");
}
