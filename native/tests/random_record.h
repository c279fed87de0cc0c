// Op records with large and boundary numbers: a valid call in which some numbers are changed. Some records are shorter
// than the struct, or longer.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "ops/device.h"

namespace c10d::test {

/// Owns the memory of its record and buffers, with exactly their sizes, so that a sanitizer detects accesses beyond
/// them.
class RandomRecord {
 public:
  /// `honest`: the addresses and sizes of buffers are right, so that an op that is accepted can run.
  RandomRecord(std::mt19937_64& random, int rank, int world_size, bool honest, Device device = {});

  const c10d_op& op() const { return *reinterpret_cast<const c10d_op*>(record_.get()); }
  /// The record as the rules say to read it: missing fields are 0.
  const c10d_op& meaning() const { return op_; }
  /// Whether bytes beyond this version of the struct are not 0.
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

/// C10D_FUZZ_SEED, or a random one.
uint64_t fuzz_seed();
/// C10D_FUZZ_SECONDS, or enough for a smoke test.
double fuzz_seconds();

}  // namespace c10d::test
