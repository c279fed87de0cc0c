// A table in memory shared by the ranks of this host, where each writes which collectives it has begun and ended. UCC
// does not compare calls: ranks whose sizes, dtypes or order differ would lose data or hang.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/transport.h"
#include "ops/call_text.h"
#include "ops/op.h"

namespace c10d::ucc_shim {

/// Only the thread that drives UCC uses it, except for late_rank().
class CallTable {
 public:
  /// Size in bytes of the memory that `ranks` ranks of this host share in a group of this size.
  static size_t bytes(size_t ranks, int world_size);

  /// Maps the memory behind a descriptor, which it closes. `local_ranks` are the ranks of this host in order, this one
  /// among them. Throws Failure.
  CallTable(int fd, std::vector<int> local_ranks, const Config& config);
  ~CallTable();
  CallTable(const CallTable&) = delete;
  CallTable& operator=(const CallTable&) = delete;

  /// A collective as the other ranks see it.
  struct Published {
    uint64_t ticket = 0;
    /// A hash of this call and all before it.
    uint64_t chain = 0;
    c10d::Call call;
  };

  /// A collective of this rank, and the places in local_ranks() of the ranks that have not reached it yet.
  struct Entry {
    Published own;
    /// Of an all-to-all: bytes sent to each rank, then bytes received from each.
    std::vector<uint64_t> parts;
    std::vector<uint32_t> missing;
  };

  /// Publishes a collective before any of its data is sent.
  void begin(const Op& op, Entry& entry);
  /// Compares it with the calls of ranks that have reached it since. Throws Failure, naming a rank whose call differs.
  /// Returns whether a rank has reached it.
  bool compare(Entry& entry) const;

  /// Publishes that a collective has ended here.
  void end(const Entry& entry);
  /// Whether a rank, by its place in local_ranks(), has ended a collective; true too if that cannot be known any more.
  bool has_ended(size_t place, uint64_t ticket) const;

  /// The first rank of this host that has not reached a collective yet; -1 if all have. From any thread.
  int late_rank(uint64_t ticket) const;

  /// Whether this rank sleeps, and has to be woken when another one begins an op.
  void set_asleep(bool asleep);
  /// Whether the rank at this place has to be woken; true only once.
  bool take_asleep(size_t place) const;
  const std::vector<int>& local_ranks() const { return local_ranks_; }
  /// Place of a rank in local_ranks(); nothing for one of another host.
  std::optional<size_t> place_of(int rank) const;

 private:
  struct RankState;
  struct Record;

  RankState& state(size_t place) const;
  Record& record(size_t place, uint64_t ticket) const;
  void list_parts(const Op& op, Entry& entry) const;
  void require_match(const Entry& entry, int rank, const Published& theirs,
                     const std::vector<uint64_t>& their_parts) const;

  const std::vector<int> local_ranks_;
  const int rank_;
  const size_t world_size_;
  size_t own_ = 0;
  void* memory_ = nullptr;
  uint64_t chain_ = 0;
};

}  // namespace c10d::ucc_shim
