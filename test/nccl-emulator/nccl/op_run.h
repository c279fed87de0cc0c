// One op of a launch while it runs: its memory, its messages, its result.
#pragma once

#include <vector>

#include "exchange.h"
#include "op.h"

namespace nccl_emulator {

class OpRun {
 public:
  OpRun(const Op& op, int rank, int ranks) : op_(op), rank_(rank), ranks_(ranks) {}

  const Op& op() const { return op_; }
  /// Finds the memory, and keeps the input if the result overwrites it. False if the memory is gone.
  bool bind(int device);
  /// The result is not there yet.
  void poison();
  void start(Exchange& exchange);
  /// Writes the result if it can. `eager`: the own messages need not have been read yet.
  void advance(bool eager);
  bool finished() const { return finished_; }

 private:
  MessageHead head() const;
  bool gives_to(int peer) const;
  bool takes_from(int peer) const;
  void finish();
  const char* part_of(int rank) const;
  void copy_parts(bool to_their_places);

  Op op_;
  int rank_, ranks_;
  const char* in_ = nullptr;
  char* out_ = nullptr;
  std::vector<char> kept_input_;
  std::vector<const Outgoing*> outgoing_;
  std::vector<const Incoming*> incoming_;  // By rank.
  bool finished_ = false;
};

}  // namespace nccl_emulator
