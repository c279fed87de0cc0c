// A rank of the tests: the host's side of the shim ABI in a process of its own, with a folder as the store.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "c10d.h"

namespace c10d::test {

/// An op with its buffers, which live as long as it does.
struct Call {
  c10d_opcode opcode;
  std::vector<std::vector<float>> inputs = {};
  std::vector<std::vector<float>> outputs = {};
  int32_t peer = -1;
  uint32_t tag = 0;
  c10d_reduce_op reduce_op = C10D_SUM;
  c10d_dtype dtype = C10D_FLOAT32;
  std::vector<uint64_t> input_splits = {};
  std::vector<uint64_t> output_splits = {};
  double timeout_ms = 60'000;
};

enum class Way { wait, events };

struct Outcome {
  int32_t status;
  int32_t peer;
  std::string text;
};

class Rank {
 public:
  /// Connects, unless `connects` is false. `options` are those of c10d_config. Throws std::runtime_error if that fails.
  Rank(int rank, int world_size, const std::filesystem::path& folder, const std::vector<std::string>& options = {},
       bool connects = true);
  ~Rank();
  Rank(const Rank&) = delete;
  Rank& operator=(const Rank&) = delete;

  /// Connects a rank that was made without connecting, and returns the outcome. It kills its process when it asks for
  /// its value number `dies_at`, counted from 0.
  Outcome try_connect(int dies_at = -1);

  int rank() const { return rank_; }
  int size() const { return size_; }
  c10d_group* group() const { return group_; }

  /// Id of the op or a negative status. Keeps a reference.
  int64_t submit(Call& call);
  /// Waits for the end of an op, in wait() or for its event.
  Outcome finish(int64_t id, Way way);
  Outcome run(Call& call, Way way) { return finish(submit(call), way); }
  void kick() const { c10d_kick(group_); }
  c10d_state state() const { return static_cast<c10d_state>(c10d_group_state(group_)); }
  /// Returns what c10d_close returned.
  int32_t close();

 private:
  void connect();
  /// Handles the pending events, after a short wait for one.
  void pump();
  void answer(const c10d_event& event);
  void look_up();
  std::filesystem::path path_of(std::string key) const;
  std::string error_of(uint64_t id) const;

  const int rank_;
  const int size_;
  const std::filesystem::path folder_;
  c10d_group* group_ = nullptr;
  int wake_fd_ = -1;
  std::map<uint64_t, c10d_event> ended_;
  /// Keys that were requested.
  std::map<uint64_t, std::string> wanted_;
  /// How many keys were requested, and at which of them the process dies.
  int asked_ = 0;
  int dies_at_ = -1;
  bool ready_ = false;
  int32_t ready_status_ = C10D_OK;
};

}  // namespace c10d::test
