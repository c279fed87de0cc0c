// A rank of a gloo group that is a thread of this process and blocks in its ops.
#pragma once

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "c10d.h"
#include "failure_view.h"
#include "group_store.h"

namespace c10d::test {

class ThreadRank {
 public:
  static constexpr double kLimitMs = 30'000;

  ThreadRank(int rank, int size, GroupStore& store) {
    const std::string options = std::string("host=127.0.0.1") + '\0';
    c10d_config config{};
    config.size = sizeof config;
    config.rank = rank;
    config.world_size = size;
    config.timeout_ms = kLimitMs;
    config.options = reinterpret_cast<uint64_t>(options.data());
    config.options_bytes = options.size();
    group_ = c10d_create(&config);
    wake_fd_ = c10d_wake_fd(group_);
    connected_ = connect(group_, wake_fd_, store) == C10D_OK;
  }
  ~ThreadRank() {
    ::close(wake_fd_);
    c10d_close(group_, kLimitMs);
  }
  ThreadRank(const ThreadRank&) = delete;
  ThreadRank& operator=(const ThreadRank&) = delete;

  bool connected() const { return connected_; }
  bool failed() const { return c10d_group_state(group_) == C10D_FAILED; }

  /// An op of float32 tensors. `input` and `output` may be null. Returns its id, or what is not positive if the group
  /// has failed.
  int64_t submit(uint32_t opcode, int32_t peer, const c10d_buffer* input, const c10d_buffer* output, uint32_t tag = 0) {
    c10d_op op{};
    op.size = sizeof op;
    op.opcode = opcode;
    op.dtype = C10D_FLOAT32;
    op.peer = peer;
    op.tag = tag;
    op.timeout_ms = kLimitMs;
    op.premul_factor = 1;
    op.inputs = reinterpret_cast<uint64_t>(input);
    op.input_count = input != nullptr ? 1 : 0;
    op.outputs = reinterpret_cast<uint64_t>(output);
    op.output_count = output != nullptr ? 1 : 0;
    const int64_t id = c10d_submit(group_, &op, 1);
    c10d_kick(group_);
    return id;
  }

  /// How the op ends.
  FailureView wait(int64_t id) {
    if (id <= 0) return take_failure(group_, 0);
    c10d_event event{};
    if (c10d_wait(group_, static_cast<uint64_t>(id), kLimitMs, &event, sizeof event) == C10D_OK) return {};
    return take_failure(group_, static_cast<uint64_t>(id));
  }

 private:
  c10d_group* group_;
  int wake_fd_;
  bool connected_;
};

inline c10d_buffer buffer_of(std::vector<float>& data) {
  return {reinterpret_cast<uint64_t>(data.data()), data.size() * sizeof(float)};
}

/// Runs `body(rank, own)` on all ranks of a group, when all are connected. Each stays open until all have ended.
template <class Result>
std::vector<Result> on_all(int size, const std::function<Result(int, ThreadRank&)>& body) {
  GroupStore store;
  std::vector<Result> results(static_cast<size_t>(size));
  std::atomic<int> begun{0};
  std::atomic<int> ended{0};
  const auto await_all = [size](std::atomic<int>& count) {
    count++;
    while (count < size) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  };
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; rank++) {
    threads.emplace_back([&, rank] {
      ThreadRank own(rank, size, store);
      await_all(begun);
      if (own.connected()) results[static_cast<size_t>(rank)] = body(rank, own);
      await_all(ended);
    });
  }
  for (auto& thread : threads) thread.join();
  return results;
}

}  // namespace c10d::test
