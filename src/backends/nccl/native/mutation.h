// Bugs that tests plant: only the objects that are compiled for a test have them.
#pragma once

#include <string>

#include "engine/transport.h"

namespace c10d::nccl_shim {

/// The option mutate=NAME of a group.
class Mutation {
 public:
#ifdef C10D_MUTATIONS
  /// All of them; a test finds each.
  static constexpr const char* kNames[] = {
      "config-size",          // ncclConfig_t ends before its first field
      "reused-id",            // all groups of this process get the same unique id
      "event-before-op",      // the end event is recorded before NCCL's calls
      "other-stream",         // NCCL's calls go to the default stream
      "default-stream",       // the op waits for the default stream instead of its own
      "no-input-wait",        // it does not wait for the stream of the op
      "late-input-wait",      // it waits for what is in that stream when the op starts
      "no-scratch-wait",      // copies out of scratch memory do not wait for NCCL
      "no-group-end",         // ncclGroupEnd is left out
      "no-end-query",         // ops end for the host as soon as they were issued
      "no-ready-wait",        // it goes on while the communicator is in progress
      "no-output-wait",       // synchronize() does nothing
      "abort-at-once",        // abort() calls ncclCommAbort on the thread that aborts
      "next-root",            // the root is the rank after it
      "sum-for-avg",          // AVG is not divided
      "early-op-destroy",     // the op of PREMUL_SUM is destroyed before it is used
      "no-self-part",         // an all-to-all leaves out what a rank sends itself
      "no-abort",             // the communicator is never aborted
      "destroy-in-progress",  // it is destroyed while it is being finalized
      "no-end-of-failed",     // an op whose call fails ends at once, although its copies are in the stream
      "min-for-max",          // max-ctas is stored as the smallest number
      "plain-priority",       // the stream has no priority
      "unlent-split"          // ops of the parent do not wait for a split
  };

  explicit Mutation(const Options& options) : name_(options.get("mutate")) {}
  bool is(const char* name) const { return name_ == name; }

 private:
  const std::string name_;
#else
  explicit Mutation(const Options& options) { (void)options; }
  bool is(const char* name) const {
    (void)name;
    return false;
  }
#endif
};

}  // namespace c10d::nccl_shim
