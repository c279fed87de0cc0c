// Collectives over Lines: each rank talks to all others at once, in one or two steps, and results are folded in the order
// of ranks, so that they are the same bits on every rank and in every run.
#pragma once

#include <memory>

#include "engine/op.h"
#include "mesh/connections.h"

namespace c10d {

/// Whether run_direct() carries out ops like this one; of others, it only compares the calls of all ranks.
bool is_direct(const Op& op);

/// A checked collective while it is its turn. Throws Failure, LineBroken.
class DirectCollective {
 public:
  DirectCollective(const Op& op, Lines& lines);
  ~DirectCollective();
  DirectCollective(const DirectCollective&) = delete;
  DirectCollective& operator=(const DirectCollective&) = delete;

  /// Does what is possible without waiting: the peers have it sooner. Returns whether that was all.
  bool begin();
  /// Does the rest.
  void finish();
  /// The same while the deadline allows; not all ops can be interrupted, and those are not begun. Returns whether it has
  /// ended.
  bool finish_by(Clock::time_point deadline);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// All of it, the `sequence`-th of the group (from 1), when its turn has come.
void run_direct(const Op& op, uint32_t sequence, Lines& lines);

}  // namespace c10d
