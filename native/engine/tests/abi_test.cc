// The C functions' own checks.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "host.h"
#include "ops/names.generated.h"

using namespace c10d::test;

TEST_CASE("version") {
  CHECK(c10d_abi_version() == C10D_ABI_VERSION);
  char version[16];
  CHECK(c10d_probe(version, sizeof version) == 8);
  CHECK(std::string(version, 8) == "fake 1.0");
  CHECK(c10d_probe(version, 4) == 4);
}

TEST_CASE("a bad configuration is refused with a reason") {
  c10d_config config{};
  config.size = sizeof config;
  config.world_size = 1;
  config.timeout_ms = kForever;
  const auto refused = [&](const char* reason) {
    CHECK(c10d_create(&config) == nullptr);
    CHECK(last_error() == reason);
  };
  SUBCASE("size") {
    for (const uint32_t size : {0U, 4U, 12U, 1U << 20}) {
      config.size = size;
      refused(("c10d_config.size is " + std::to_string(size) + ": it must be the size of the struct in bytes").c_str());
    }
    // Without a world size.
    config.size = 8;
    refused("rank must be in 0..world_size-1");
  }
  SUBCASE("world size") {
    config.world_size = 0;
    refused("rank must be in 0..world_size-1");
  }
  SUBCASE("rank") {
    config.rank = 1;
    refused("rank must be in 0..world_size-1");
  }
  SUBCASE("time-out") {
    for (const double timeout : {-1.0, static_cast<double>(NAN)}) {
      config.timeout_ms = timeout;
      refused("timeout_ms must not be negative");
    }
  }
  SUBCASE("options that are NULL") {
    config.options_bytes = 8;
    refused("options are NULL");
  }
  SUBCASE("options") {
    const char options[] = "model=polling\0nonsense";
    config.options = reinterpret_cast<uint64_t>(options);
    config.options_bytes = sizeof options;
    refused("option without a value: nonsense");
  }
  CHECK(c10d_create(nullptr) == nullptr);
}

TEST_CASE("options") {
  const char text[] = "a=1\0b=x=y\0c=\0a=2";
  const c10d::Options options(text, sizeof text - 1);
  CHECK(options.get("a") == "1");
  CHECK(options.get("b") == "x=y");
  CHECK(options.get("c", "fallback").empty());
  CHECK(options.get("d", "fallback") == "fallback");
  CHECK(c10d::Options(nullptr, 0).get("a").empty());
}

TEST_CASE("a malformed op is refused with a reason and takes no id") {
  Host host({"model=blocking"});
  auto op = op_record({});
  const auto refused = [&](const char* reason, int32_t status = C10D_ERR_INVALID) {
    CHECK(c10d_submit(host.group(), &op, 1) == status);
    CHECK(last_error() == reason);
    CHECK(host.stats().submitted == 0);
  };
  c10d_buffer buffer{0, 16};
  SUBCASE("size") {
    for (const uint32_t size : {0U, 4U, 108U, 1U << 20}) {
      op.size = size;
      refused(("c10d_op.size is " + std::to_string(size) + ": it must be the size of the struct in bytes").c_str());
    }
  }
  SUBCASE("time-outs") {
    for (const double timeout : {-1.0, static_cast<double>(NAN)}) {
      op.timeout_ms = timeout;
      refused("timeout_ms must not be negative");
    }
  }
  SUBCASE("detached buffer") {
    op.outputs = reinterpret_cast<uint64_t>(&buffer);
    op.output_count = 1;
    refused("buffer address is NULL: the buffer is detached");
  }
  SUBCASE("no table") {
    op.inputs = 0;
    op.input_count = 2;
    refused("buffer table is NULL");
  }
  SUBCASE("a table that is too long") {
    op.inputs = reinterpret_cast<uint64_t>(&buffer);
    op.input_count = 0xffffffff;
    refused("buffer table too long");
  }
  SUBCASE("no splits") {
    op.output_split_count = 1;
    refused("split table is NULL");
  }
  SUBCASE("unknown numbers") {
    op.opcode = c10d::kHighestOpcode + 1;
    refused("unknown op", C10D_ERR_UNSUPPORTED);
    op.opcode = C10D_OP_ALLREDUCE;
    op.dtype = 8;
    refused("unknown dtype", C10D_ERR_UNSUPPORTED);
    op.dtype = C10D_FLOAT32;
    op.reduce_op = 9;
    refused("unknown reduce op", C10D_ERR_UNSUPPORTED);
    op.reduce_op = C10D_PREMUL_SUM;
    op.premul_factor = static_cast<double>(NAN);
    refused("premul_factor must be a number");
    op.reduce_op = C10D_SUM;
    op.flags = 16;
    refused("unknown flags");
    op.flags = 0;
    op.reserved = 1;
    refused("reserved must be 0");
  }
  SUBCASE("another device, a stream without its flag, a service that is not announced") {
    op.device_index = 1;
    refused("the tensors are on device cpu:1, but the group is on cpu");
    op.device_type = C10D_DEVICE_CUDA;
    refused("the tensors are on device cuda:1, but the group is on cpu");
    op.device_type = C10D_DEVICE_CPU;
    op.device_index = 0;
    op.stream = 7;
    refused("a stream needs C10D_FLAG_STREAM");
    op.stream = 0;
    for (const uint32_t service : {31U, 36U}) {
      op.opcode = service;
      refused("unknown op", C10D_ERR_UNSUPPORTED);
    }
    op.opcode = C10D_SERVICE_OPEN_WINDOW;
    refused("the backend has no such service", C10D_ERR_UNSUPPORTED);
  }
  SUBCASE("ranks that do not exist") {
    for (const int32_t peer : {-1, 8, INT32_MIN, INT32_MAX}) {
      op.peer = peer;
      op.opcode = C10D_OP_BROADCAST;
      refused("no such root");
      op.opcode = C10D_OP_SEND;
      refused("no such peer");
    }
    op.peer = 0;
    op.opcode = C10D_OP_RECV;
    refused("the peer is this rank itself");
  }
  SUBCASE("buffers of another op") {
    refused("takes one buffer");
    for (const c10d_opcode opcode : {C10D_OP_SEND, C10D_OP_RECV, C10D_OP_RECV_ANY_SOURCE}) {
      op = op_record({0, kForever, opcode});
      refused("takes one buffer");
    }
    uint64_t memory[2] = {0, 0};
    const c10d_buffer own{reinterpret_cast<uint64_t>(memory), sizeof memory};
    op = op_record({0, kForever, C10D_OP_ALLGATHER_BASE});
    op.inputs = op.outputs = reinterpret_cast<uint64_t>(&own);
    op.input_count = op.output_count = 1;
    refused("output must be world size times the input");
  }
  SUBCASE("impossible sizes") {
    uint64_t memory = 0;
    const auto address = reinterpret_cast<uint64_t>(&memory);
    c10d_buffer buffers[2] = {{address, 6}, {address, 0}};
    op.outputs = reinterpret_cast<uint64_t>(buffers);
    op.output_count = 2;
    refused("buffer size is not a multiple of the element size");
    buffers[0].bytes = UINT64_MAX - 3;
    refused("buffer is larger than memory");
    buffers[0].bytes = buffers[1].bytes = uint64_t{1} << 62;
    refused("buffers are larger than memory");
  }
  SUBCASE("splits whose sum overflows") {
    uint64_t splits[2] = {UINT64_MAX, 2};
    op.input_splits = reinterpret_cast<uint64_t>(splits);
    op.input_split_count = 2;
    refused("splits add up to more than memory");
    splits[0] = uint64_t{1} << 62;
    refused("splits add up to more than memory");
  }
  CHECK(c10d_submit(host.group(), &op, 1U << 21) == C10D_ERR_INVALID);
  CHECK(c10d_submit(host.group(), nullptr, 1) == C10D_ERR_INVALID);
  CHECK(c10d_submit(host.group(), &op, 0) == C10D_ERR_INVALID);
}

TEST_CASE("a time-out that is NaN does not wait") {
  Host host({"model=blocking"});
  const auto id = host.submit(script(Outcome::gated));
  CHECK(host.wait(id, static_cast<double>(NAN)) == C10D_ERR_WAIT_TIMEOUT);
}

TEST_CASE("an empty buffer needs no address") {
  Host host({"model=blocking"});
  auto op = op_record({});
  const c10d_buffer buffer{0, 0};
  op.outputs = reinterpret_cast<uint64_t>(&buffer);
  op.output_count = 1;
  CHECK(c10d_submit(host.group(), &op, 1) == 1);
  CHECK(host.wait(1) == C10D_OK);
}

TEST_CASE("tables are copied at submit, and addresses passed beside the record have priority") {
  Host host({"model=blocking"});
  uint64_t first = 0;
  uint64_t second = 0;
  auto op = op_record({});
  c10d_buffer buffer{reinterpret_cast<uint64_t>(&first), sizeof first};
  op.outputs = reinterpret_cast<uint64_t>(&buffer);
  op.output_count = 1;
  CHECK(c10d_submit(host.group(), &op, 1) == 1);
  CHECK(c10d_submit_one(host.group(), &op, nullptr, &second) == 2);
  std::memset(&buffer, 0, sizeof buffer);
  std::memset(&op, 0, sizeof op);
  CHECK(host.wait(2) == C10D_OK);
  CHECK(first == result_of(0));
  CHECK(second == result_of(1));
}

TEST_CASE("texts are truncated to the buffer") {
  Host host({"model=blocking"});
  const auto id = host.submit(script(Outcome::network));
  CHECK(host.wait(id) == C10D_ERR_NETWORK);
  char text[8] = "-------";
  c10d_failure failure{};
  failure.size = sizeof failure;
  failure.text = reinterpret_cast<uint64_t>(text);
  failure.text_capacity = 4;
  CHECK(c10d_take_failure(host.group(), 0, &failure) == C10D_ERR_NETWORK);
  CHECK(failure.text_bytes == 4);
  CHECK(std::string(text) == "conn---");
  failure.text = failure.text_capacity = 0;
  CHECK(c10d_take_failure(host.group(), static_cast<uint64_t>(id), &failure) == C10D_ERR_NETWORK);
  CHECK(failure.text_bytes == 0);
  CHECK(c10d_take_failure(host.group(), 77, &failure) == C10D_OK);
}

TEST_CASE("times are measured on request") {
  Host host({"model=blocking"});
  for (const uint32_t flags : {0U, uint32_t{C10D_FLAG_TIMES}}) {
    auto op = op_record({0, kForever, C10D_OP_BARRIER});
    op.flags = flags;
    const uint64_t before = c10d_clock_ns();
    c10d_event event{};
    CHECK(host.wait(c10d_submit(host.group(), &op, 1), kForever, &event) == C10D_OK);
    if (flags == 0) {
      CHECK(event.started_ns == 0);
      CHECK(event.finished_ns == 0);
    } else {
      CHECK(event.started_ns >= before);
      CHECK(event.finished_ns >= event.started_ns);
      CHECK(event.finished_ns <= c10d_clock_ns());
    }
  }
}

TEST_CASE("counters") {
  Host host({"model=blocking"});
  host.submit({});
  host.submit({});
  host.submit(script(Outcome::unsupported));
  CHECK(host.wait(1) == C10D_OK);
  host.kick();
  CHECK(host.completion(2).status == C10D_OK);
  CHECK(host.completion(3).status == C10D_ERR_UNSUPPORTED);
  const auto stats = host.stats();
  CHECK(stats.submitted == 3);
  CHECK(stats.completed == 2);
  CHECK(stats.failed == 1);
  CHECK(stats.driven_by_wait == 1);
  CHECK(stats.pinned == 0);
  CHECK(stats.wakes >= 2);
}
