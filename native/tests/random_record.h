// Op records with large and boundary numbers: a call that fits the group, in which some numbers are others. Some are
// shorter than the struct, or longer.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "ops/device.h"

namespace c10d::test {

/// Keeps the memory of its record: of exactly its size, so that a sanitizer sees what is read beyond it. All of it is
/// there, whatever the numbers say, up to `kMemory` bytes per buffer.
class RandomRecord {
 public:
  static constexpr size_t kMemory = 256;

  /// `honest`: the addresses and sizes of buffers are right, so that an op that is taken can be carried out.
  RandomRecord(std::mt19937_64& random, int rank, int world_size, bool honest, Device device = {});

  const c10d_op& op() const { return *reinterpret_cast<const c10d_op*>(record_.get()); }
  /// What it says to whom reads it by the rules: what is missing is 0.
  const c10d_op& meaning() const { return op_; }
  /// Whether there is something in what this version of the struct does not have.
  bool has_unknown() const { return unknown_; }

 private:
  uint64_t pick(std::initializer_list<uint64_t> numbers);
  uint64_t boundary();
  bool chance(unsigned one_in) { return random_() % one_in == 0; }
  c10d_buffer make(uint64_t elements);
  void fit(int rank, uint64_t n);
  void spoil_splits();
  void spoil(bool honest);
  void spoil_place();
  void write(bool honest);

  std::mt19937_64& random_;
  c10d_op op_{};
  std::unique_ptr<uint64_t[]> record_;
  bool unknown_ = false;
  uint64_t element_ = 4;
  std::vector<std::unique_ptr<uint8_t[]>> memory_;
  std::vector<c10d_buffer> inputs_;
  std::vector<c10d_buffer> outputs_;
  std::vector<uint64_t> input_splits_;
  std::vector<uint64_t> output_splits_;
};

/// C10D_FUZZ_SEED, or another one every time.
uint64_t fuzz_seed();
/// C10D_FUZZ_SECONDS, or what a smoke test takes.
double fuzz_seconds();

}  // namespace c10d::test
