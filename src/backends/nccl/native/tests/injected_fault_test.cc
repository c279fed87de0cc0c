// Failures of NCCL that the emulator injects.
#include <doctest/doctest.h>

#include <cerrno>

#include "device_ranks.h"
#include "emulator_faults.h"
#include "mutated.h"
#include "own_program.h"

using namespace c10d::test;

namespace {

constexpr size_t kFloats = 16;

/// Runs a test case that is skipped otherwise, in a process with these faults.
void check_child(const std::string& cases, const std::string& faults) {
  CHECK(run_own_program(cases, {"NCCL_EMULATOR_FAULTS=" + faults}, 60) == "");
}

}  // namespace

TEST_CASE("child: an error that no call reports" * doctest::skip()) {
  const DeviceBuffer x(1, kFloats);
  DeviceRanks ranks(1, mutated());
  const auto id = ranks.run(0, DeviceOp(C10D_OP_ALLREDUCE, 0).out(x));
  CHECK(ranks.wait(0, id) == C10D_ERR_BACKEND);
  const auto failure = take_failure(ranks.group(0), static_cast<uint64_t>(id));
  CHECK(failure.text.find("injected asynchronous error") != std::string::npos);
}

TEST_CASE("fault: an error that no call reports fails the op") {
  check_child("child: an error that no call reports", "async-error@0");
}

TEST_CASE("child: a call fails" * doctest::skip()) {
  const DeviceBuffer x(1, kFloats);
  DeviceRanks ranks(1, mutated());
  CHECK(ranks.wait(0, ranks.run(0, DeviceOp(C10D_OP_ALLREDUCE, 0).out(x))) == C10D_OK);
  const auto id = ranks.run(0, DeviceOp(C10D_OP_ALLREDUCE, 0).out(x));
  CHECK(ranks.wait(0, id) == C10D_ERR_BACKEND);
  CHECK(take_failure(ranks.group(0), static_cast<uint64_t>(id)).text.find("(ncclResult 3)") != std::string::npos);
  CHECK(c10d_group_state(ranks.group(0)) == C10D_FAILED);
  CHECK(ranks.close(0) == 0);
}

TEST_CASE("fault: a call that fails fails its op and the group") { check_child("child: a call fails", "internal@1"); }

TEST_CASE("child: a call fails behind copies" * doctest::skip()) {
  const NoFaults faults;
  const DeviceBuffer a(1, kFloats), gap(1, kFloats), b(1, kFloats), out(1, kFloats);
  a.write(0, 1);
  b.write(0, 2);
  DeviceRanks ranks(2, mutated());
  const DeviceStream stream(1);
  Hold hold(1, stream);
  // Its inputs are copied in the stream, when that goes on.
  const auto id = ranks.run(0, DeviceOp(C10D_OP_REDUCE_SCATTER, stream).in(a).in(b).out(out));
  CHECK(ranks.wait(0, id, 300) == C10D_ERR_WAIT_TIMEOUT);
  hold.release();
  c10d_event event{};
  CHECK(ranks.wait(0, id, 20'000, &event) == C10D_ERR_BACKEND);
  CHECK((event.flags & C10D_EVENT_PINNED) == 0);
}

TEST_CASE("fault: an op whose call fails ends when what is in the stream before that has ended") {
  check_child("child: a call fails behind copies", "internal@0");
}

TEST_CASE("child: memory is refused" * doctest::skip()) {
  const NoFaults faults;
  const DeviceBuffer x(1, kFloats);
  DeviceRanks ranks(1, mutated());
  c10d_capabilities all{};
  c10d_group_capabilities(ranks.group(0), &all, sizeof all);
  for (const auto service : {C10D_SERVICE_REGISTER_MEMORY, C10D_SERVICE_OPEN_WINDOW}) {
    if ((all.services >> service & 1) == 0) continue;
    // Again, since nothing was left.
    for (int round = 0; round < 2; round++) {
      const auto id = ranks.run(0, DeviceOp(service).out(x));
      CHECK(ranks.wait(0, id) == C10D_ERR_INVALID);
      const auto failure = take_failure(ranks.group(0), static_cast<uint64_t>(id));
      CHECK(failure.text.find("NCCL refuses the memory: ncclComm") == 0);
    }
  }
  CHECK(c10d_window_address(ranks.group(0), x.address(), 0) == 0);
  CHECK(ranks.wait(0, ranks.run(0, DeviceOp(C10D_OP_ALLREDUCE, 0).out(x))) == C10D_OK);
}

TEST_CASE("fault: a group can be used after NCCL has refused memory") {
  check_child("child: memory is refused", "refuse-memory");
}

TEST_CASE("child: too little memory" * doctest::skip()) {
  const NoFaults faults;
  constexpr size_t kMany = (size_t{1} << 20) / sizeof(float);
  const DeviceBuffer x(1, kMany), between(1, kFloats), a(1, kMany);
  const DeviceBuffer gap(1, kFloats), b(1, kMany);
  const DeviceBuffer y(2, kFloats);
  DeviceRanks ranks(1, mutated());
  CHECK(ranks.wait(0, ranks.run(0, DeviceOp(C10D_OP_ALLREDUCE, 0).out(x))) == C10D_OK);
  DeviceRanks two(2, mutated());
  const auto id = two.run(0, DeviceOp(C10D_OP_ALLGATHER, 0).in(x).out(a).out(b));
  CHECK(two.wait(0, id) == C10D_ERR_BACKEND);
  const auto failure = take_failure(two.group(0), static_cast<uint64_t>(id));
  CHECK(failure.system_error == ENOMEM);
  CHECK(failure.text.find("the device has no 2097152 bytes left") == 0);
  CHECK(c10d_group_state(two.group(0)) == C10D_FAILED);
  CHECK(ranks.wait(0, ranks.run(0, DeviceOp(C10D_OP_ALLREDUCE, 0).out(x))) == C10D_OK);
}

TEST_CASE("fault: an op that lacks scratch memory says how much") {
  CHECK(run_own_program("child: too little memory", {"NCCL_EMULATOR_MEMORY_MB=4"}, 60) == "");
}

TEST_CASE("child: an op hangs" * doctest::skip()) {
  const DeviceBuffer x(1, kFloats);
  DeviceRanks ranks(1, mutated());
  const auto id = ranks.run(0, DeviceOp(C10D_OP_ALLREDUCE, 0).out(x).limit(100));
  c10d_event event{};
  CHECK(ranks.wait(0, id, 20'000, &event) == C10D_ERR_OP_TIMEOUT);
  CHECK((event.flags & C10D_EVENT_PINNED) == 0);
  CHECK(ranks.close(0) == 0);
}

TEST_CASE("fault: an op that hangs times out, and the abort ends it") { check_child("child: an op hangs", "hang@0"); }

TEST_CASE("child: making a communicator fails" * doctest::skip()) {
  DeviceRanks ranks(2, mutated());
  for (int32_t rank = 0; rank < 2; rank++) {
    CHECK(ranks.ready(rank).status == C10D_ERR_BACKEND);
    CHECK(take_failure(ranks.group(rank), 0).text.find("(ncclResult 2)") != std::string::npos);
  }
}

TEST_CASE("fault: making a communicator fails") { check_child("child: making a communicator fails", "init-error"); }

TEST_CASE("child: a peer aborts" * doctest::skip()) {
  const DeviceBuffer x(2, kFloats);
  DeviceRanks ranks(2, mutated());
  const auto id = ranks.run(1, DeviceOp(C10D_OP_ALLREDUCE, 0).out(x));
  c10d_abort(ranks.group(0), C10D_ERR_ABORTED, "enough");
  CHECK(ranks.wait(1, id) == C10D_ERR_NETWORK);
  CHECK(ranks.close(1) == 0);
}

TEST_CASE("fault: a rank whose peer has aborted is told of it") {
  check_child("child: a peer aborts", "abort-tells-peers");
}

TEST_CASE("child: the device is lost" * doctest::skip()) {
  constexpr CUresult kIllegalAddress = 700;
  DeviceRanks ranks(2, mutated());
  const DeviceBuffer x(1, kFloats);
  const auto id = ranks.run(0, DeviceOp(C10D_OP_ALLREDUCE, 0).out(x));
  CHECK(ranks.wait(0, id, 20) == C10D_ERR_WAIT_TIMEOUT);
  cuemu_break(1, kIllegalAddress);
  CHECK(ranks.wait(0, id) == C10D_ERR_BACKEND);
  CHECK(take_failure(ranks.group(0), static_cast<uint64_t>(id)).text.find("CUDA_ERROR_ILLEGAL_ADDRESS") !=
        std::string::npos);
  CHECK(c10d_group_state(ranks.group(0)) == C10D_FAILED);
  CHECK(ranks.close(0) == 0);
  cuemu_break(1, 0);
}

TEST_CASE("fault: an error of the device fails its groups, with CUDA's name for it") {
  check_child("child: the device is lost", "");
}
