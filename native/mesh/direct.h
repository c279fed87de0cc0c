// Collectives over Connections. Each rank exchanges data with all others at once, in one or two steps. Results are
// reduced in the order of ranks, so they have the same bits on every rank and in every run.
#pragma once

#include <memory>

#include "mesh/connections.h"
#include "ops/op.h"

namespace c10d {

/// Whether run_direct() carries out this op. If not, it only compares the calls of all ranks.
bool is_direct(const Op& op);

/// A validated collective during its turn. Throws Failure, ConnectionLost.
class DirectCollective {
 public:
  DirectCollective(const Op& op, Connections& connections);
  ~DirectCollective();
  DirectCollective(const DirectCollective&) = delete;
  DirectCollective& operator=(const DirectCollective&) = delete;

  /// Does what is possible without waiting, so that the peers get data sooner. Returns whether the op is complete.
  bool begin();
  /// Does the rest.
  void finish();
  /// The same until the deadline, unless the op cannot be interrupted: then it does nothing. Returns whether the op is
  /// complete.
  bool finish_by(Clock::time_point deadline);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// Waits for the turn of the op, which is the `sequence`-th collective of the group (from 1), and carries it out.
void run_direct(const Op& op, uint32_t sequence, Connections& connections);

}  // namespace c10d
