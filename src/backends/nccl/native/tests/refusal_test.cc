// What is refused before anything is sent, and why the library cannot be used.
#include <doctest/doctest.h>

#include "device_ranks.h"
#include "emulator_faults.h"
#include "mutated.h"
#include "own_program.h"

using namespace c10d::test;

namespace {

constexpr size_t kFloats = 8;

std::string probed() {
  char version[64] = "";
  return c10d_probe(version, sizeof version) < 0 ? last_error() : version;
}

/// Why a group with this option cannot be made, or an empty text.
std::string refused_option(const std::string& option) {
  const std::string options = option + '\0';
  c10d_config config{};
  config.size = sizeof config;
  config.world_size = 1;
  config.device_type = C10D_DEVICE_CUDA;
  config.device_index = 1;
  config.options = reinterpret_cast<uint64_t>(options.data());
  config.options_bytes = options.size();
  c10d_group* group = c10d_create(&config);
  if (group == nullptr) return last_error();
  CHECK(c10d_close(group, 20'000) == 0);
  return "";
}

int version() {
  int minor = 0;
  int patch = 0;
  REQUIRE(std::sscanf(probed().c_str(), "nccl 2.%d.%d", &minor, &patch) == 2);
  return 20'000 + minor * 100 + patch;
}

}  // namespace

TEST_CASE("refused: memory of the host or of another device, and unknown streams") {
  NoFaults faults;
  const DeviceBuffer own(1, kFloats), others(2, kFloats);
  DeviceRanks ranks(2, mutated());
  CHECK(ranks.submit(0, DeviceOp(C10D_OP_ALLREDUCE).out(others)) == C10D_ERR_INVALID);
  CHECK(last_error().find("are not in memory of cuda:1") != std::string::npos);
  CHECK(ranks.submit(0, DeviceOp(C10D_OP_ALLREDUCE, 77).out(own)) == C10D_ERR_INVALID);
  CHECK(last_error() == "no such stream on cuda:1");
  CHECK(faults.forgive() == 1);
  const DeviceStream of_another(2);
  CHECK(ranks.submit(0, DeviceOp(C10D_OP_ALLREDUCE, of_another).out(own)) == C10D_ERR_INVALID);
  float host[kFloats] = {};
  auto record = DeviceOp(C10D_OP_ALLREDUCE).out(own).record(1);
  c10d_buffer buffer{own.address(), own.bytes()};
  record.outputs = reinterpret_cast<uint64_t>(&buffer);
  CHECK(c10d_submit_one(ranks.group(0), &record, nullptr, host) == C10D_ERR_INVALID);
  // Half of it is beyond the end.
  buffer.address += 1 << 20;
  CHECK(c10d_submit(ranks.group(0), &record, 1) == C10D_ERR_INVALID);
  CHECK(c10d_group_state(ranks.group(0)) == C10D_OPEN);
}

TEST_CASE("refused: reduce ops and dtypes that NCCL lacks, with PyTorch's texts") {
  const NoFaults faults;
  const DeviceBuffer x(1, kFloats);
  DeviceRanks ranks(1, mutated());
  struct Case {
    uint32_t dtype;
    uint32_t reduce_op;
    const char* text;
  };
  constexpr Case kCases[] = {
      {C10D_INT32, C10D_BAND, "Cannot use ReduceOp.BAND with NCCL"},
      {C10D_INT32, C10D_BXOR, "Cannot use ReduceOp.BXOR with NCCL"},
      {C10D_BOOL, C10D_AVG, "Cannot use ReduceOp.AVG with boolean inputs"},
      {C10D_INT32, C10D_PREMUL_SUM, "PreMulSum Data type must be half, float, bfloat16 or double"},
      {C10D_COMPLEX64, C10D_MAX, "Cannot use ReduceOp.MAX with complex inputs"},
      {C10D_INT16, C10D_SUM, "NCCL cannot reduce int16"},
  };
  for (const auto& one : kCases) {
    auto record = DeviceOp(C10D_OP_ALLREDUCE).out(x).record(1);
    const c10d_buffer buffer{x.address(), x.bytes()};
    record.outputs = reinterpret_cast<uint64_t>(&buffer);
    record.dtype = one.dtype;
    record.reduce_op = one.reduce_op;
    record.premul_factor = 1;
    CHECK(c10d_submit(ranks.group(0), &record, 1) == C10D_ERR_UNSUPPORTED);
    CHECK(last_error() == one.text);
  }
  c10d_op barrier = DeviceOp(C10D_OP_BARRIER).record(1);
  barrier.flags |= C10D_FLAG_MONITORED;
  CHECK(c10d_submit(ranks.group(0), &barrier, 1) == C10D_ERR_UNSUPPORTED);
  CHECK(c10d_group_state(ranks.group(0)) == C10D_OPEN);
}

TEST_CASE("refused: options that are no numbers, and fields of ncclConfig_t that this version lacks") {
  CHECK(refused_option("min-ctas=many") == "option min-ctas must be a whole number, got \"many\"");
  CHECK(refused_option("nonblocking-timeout=1s") == "option nonblocking-timeout must be a whole number, got \"1s\"");
  struct Field {
    const char* option;
    int since;
    const char* text;
  };
  constexpr Field kFields[] = {
      {"split-share=1", 21'800, "2.18"},   {"traffic-class=1", 22'600, "2.26.0"},
      {"comm-name=one", 22'700, "2.27.0"}, {"nvls-ctas=2", 22'700, "2.27.0"},
      {"num-rma-ctx=1", 22'900, "2.29.0"}, {"graph-stream-ordering=1", 23'005, "2.30.5"},
  };
  for (const auto& field : kFields) {
    CAPTURE(std::string(field.option));
    const std::string error = refused_option(field.option);
    if (version() >= field.since) {
      CHECK(error == "");
    } else {
      CHECK(error.find(std::string("needs NCCL ") + field.text + " or newer") != std::string::npos);
    }
  }
}

TEST_CASE("refused: a device that is not there") {
  c10d_config config{};
  config.size = sizeof config;
  config.world_size = 1;
  config.device_type = C10D_DEVICE_CUDA;
  config.device_index = 63;
  c10d_group* group = c10d_create(&config);
  REQUIRE(group != nullptr);
  c10d_event event{};
  while (event.kind != C10D_EVENT_READY) c10d_drain(group, &event, sizeof event, 1);
  CHECK(event.status == C10D_ERR_UNAVAILABLE);
  CHECK(take_failure(group, 0).text == "there is no cuda:63: the CUDA driver finds 9 devices");
  CHECK(c10d_close(group, 20'000) == 0);
  config.device_type = C10D_DEVICE_CPU;
  config.device_index = 0;
  CHECK(c10d_create(&config) == nullptr);
  CHECK(last_error() == "NCCL needs a CUDA device, got cpu");
}

TEST_CASE("probe: the version of the library") {
  CHECK(probed().find("nccl 2.") == 0);
  const char* expected = std::getenv("C10D_TEST_NCCL");
  if (expected != nullptr) CHECK(probed() == std::string("nccl ") + expected);
}

TEST_CASE("child: there is no device" * doctest::skip()) {
  CHECK(probed().find("cuInit: CUDA_ERROR_NO_DEVICE: ") == 0);
}

TEST_CASE("probe: without a device, it says so") {
  CHECK(run_own_program("child: there is no device", {"NCCL_EMULATOR_DEVICES=0"}, 20) == "");
}
