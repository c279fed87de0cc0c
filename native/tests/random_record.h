// Op records with large and boundary numbers: a call that fits the group, in which some numbers are others.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "engine/transport.h"

namespace c10d::test {

/// Keeps the memory of its record. All of it is there, whatever the numbers say, up to `kMemory` bytes per buffer.
class RandomRecord {
 public:
  static constexpr size_t kMemory = 256;

  /// `honest`: the addresses and sizes of buffers are right, so that an op that is taken can be carried out.
  RandomRecord(std::mt19937_64& random, int rank, int world_size, bool honest);

  c10d_op& op() { return op_; }

 private:
  uint64_t pick(std::initializer_list<uint64_t> numbers);
  uint64_t boundary();
  bool chance(unsigned one_in) { return random_() % one_in == 0; }
  c10d_buffer make(uint64_t elements);
  void fit(int rank, uint64_t n);
  void spoil_splits();
  void spoil(bool honest);

  std::mt19937_64& random_;
  c10d_op op_{};
  uint64_t element_ = 4;
  std::vector<std::unique_ptr<uint8_t[]>> memory_;
  std::vector<c10d_buffer> inputs_;
  std::vector<c10d_buffer> outputs_;
  std::vector<uint64_t> input_splits_;
  std::vector<uint64_t> output_splits_;
};

/// C10D_FUZZ_SEED, or another one every time.
/// Of a group on the CPU.
Config config_of_rank(int rank, int world_size);

uint64_t fuzz_seed();
/// C10D_FUZZ_SECONDS, or what a smoke test takes.
double fuzz_seconds();

}  // namespace c10d::test
