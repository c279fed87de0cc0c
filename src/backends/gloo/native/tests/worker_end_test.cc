// Rank 0 of two is a Worker that ends while its ops are in flight, and its memory is freed. Sanitizers see later
// accesses to it. Rank 1 continues until it notices, and checks its sums. C10D_ROUNDS is the number of rounds.
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "fake_worker.h"
#include "group_store.h"

using namespace c10d::test;

namespace {

constexpr double kLimitMs = 60'000;
constexpr int kAllReduces = 3;

c10d_config config_of(int rank, const std::string& options) {
  c10d_config config{};
  config.size = sizeof config;
  config.rank = rank;
  config.world_size = 2;
  config.timeout_ms = kLimitMs;
  config.options = reinterpret_cast<uint64_t>(options.data());
  config.options_bytes = options.size();
  return config;
}

int64_t submit(c10d_group* group, uint32_t opcode, std::vector<float>& data) {
  c10d_op op{};
  const c10d_buffer buffer{reinterpret_cast<uint64_t>(data.data()), data.size() * sizeof(float)};
  op.size = sizeof op;
  op.opcode = opcode;
  op.dtype = C10D_FLOAT32;
  op.peer = opcode == C10D_OP_RECV ? 1 : -1;
  op.timeout_ms = kLimitMs;
  op.premul_factor = 1;
  op.outputs = reinterpret_cast<uint64_t>(&buffer);
  op.output_count = 1;
  return c10d_submit(group, &op, 1);
}

void worker_side(int round, size_t elements, GroupStore& store) {
  // In memory of this thread, which is freed when it ends.
  std::vector<std::vector<float>> tensors(kAllReduces, std::vector<float>(elements, 1));
  std::vector<float> never(elements);
  FakeWorker worker;
  const std::string options = std::string("host=127.0.0.1") + '\0' + "thread=worker" + '\0';
  c10d_group* group = worker.create(config_of(0, options));
  const int wake_fd = c10d_wake_fd(group);
  const int32_t connected = connect(group, wake_fd, store);
  CHECK(connected == C10D_OK);
  for (auto& tensor : tensors) submit(group, C10D_OP_ALLREDUCE, tensor);
  const int64_t last = submit(group, C10D_OP_RECV, never);
  c10d_kick(group);
  // Some end at once, some in the middle, some after a wait.
  if (round % 3 == 1) std::this_thread::sleep_for(std::chrono::microseconds(round * 131 % 5'000));
  if (round % 3 == 2) CHECK(c10d_wait(group, static_cast<uint64_t>(last), 5, nullptr, 0) == C10D_ERR_WAIT_TIMEOUT);
  ::close(wake_fd);
  worker.end();
}

void peer_side(size_t elements, GroupStore& store) {
  const std::string options = std::string("host=127.0.0.1") + '\0';
  const auto config = config_of(1, options);
  c10d_group* group = c10d_create(&config);
  const int wake_fd = c10d_wake_fd(group);
  int32_t status = connect(group, wake_fd, store);
  std::vector<float> tensor(elements);
  int completed = 0;
  while (status == C10D_OK) {
    std::fill(tensor.begin(), tensor.end(), 7.0F);
    const int64_t id = submit(group, C10D_OP_ALLREDUCE, tensor);
    status = id > 0 ? c10d_wait(group, static_cast<uint64_t>(id), kLimitMs, nullptr, 0) : static_cast<int32_t>(id);
    if (status != C10D_OK) break;
    completed++;
    CHECK(std::all_of(tensor.begin(), tensor.end(), [](float each) { return each == 8.0F; }));
  }
  // The group may have failed between two ops.
  CHECK((status == C10D_ERR_NETWORK || status == C10D_ERR_GROUP_FAILED));
  CHECK(completed <= kAllReduces);
  ::close(wake_fd);
  CHECK(c10d_close(group, kLimitMs) == 0);
}

}  // namespace

TEST_CASE("a Worker ends with ops of Gloo in flight") {
  const char* given = std::getenv("C10D_ROUNDS");
  const int rounds = given == nullptr ? 60 : std::atoi(given);
  for (int round = 0; round < rounds; round++) {
    CAPTURE(round);
    GroupStore store;
    const size_t elements = round % 2 == 0 ? 1 : 250'000;
    std::thread peer([&] { peer_side(elements, store); });
    std::thread([&] { worker_side(round, elements, store); }).join();
    peer.join();
  }
}
