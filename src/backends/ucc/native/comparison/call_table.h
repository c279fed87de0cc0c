// What each rank of this host has called, in memory that they share. UCC does not compare calls: ranks whose sizes, dtypes or
// order differ would lose data or hang.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/call_text.h"
#include "engine/op.h"
#include "engine/transport.h"

namespace c10d::ucc_shim {

/// Only the thread that drives UCC uses it, but for latecomer().
class Ledger {
 public:
  /// Bytes of the memory that `ranks` of this host share in a group of this size.
  static size_t bytes(size_t ranks, int world_size);

  /// Maps the memory behind a descriptor, which it closes; `here` are the ranks of this host in order, this one among them.
  /// Throws Failure.
  Ledger(int fd, std::vector<int> here, const Config& config);
  ~Ledger();
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  /// A collective as the ranks see it from each other.
  struct Entered {
    uint64_t ticket = 0;
    /// Stands for this call and all before it.
    uint64_t chain = 0;
    c10d::Call call;
  };

  /// A collective of this rank, and the places in `here` of those that have not come to it yet.
  struct Entry {
    Entered own;
    /// Of an all-to-all: bytes that go to each rank, and then bytes that come from each.
    std::vector<uint64_t> parts;
    std::vector<uint32_t> missing;
  };

  /// Writes down a collective before anything of it is sent.
  void enter(const Op& op, Entry& entry);
  /// Compares it with what those have called who have come to it since. Throws Failure, naming one that called something
  /// else. Returns whether somebody has come.
  bool compare(Entry& entry) const;

  /// Writes down that a collective has ended here.
  void leave(const Entry& entry);
  /// Whether a rank, by its place in here(), has ended a collective; true too if that cannot be known any more.
  bool has_left(size_t place, uint64_t ticket) const;

  /// The first rank of this host that has not come to a collective yet; -1 if all have. From any thread.
  int latecomer(uint64_t ticket) const;

  /// Whether this rank wants to be woken when another one begins something.
  void set_asleep(bool asleep);
  /// Whether a rank wants to be woken; asked by place in `here`, and true only once.
  bool take_asleep(size_t place) const;
  const std::vector<int>& here() const { return here_; }
  /// Place of a rank in here(); nothing for one of another host.
  std::optional<size_t> place_of(int rank) const;

 private:
  struct Presence;
  struct Record;

  Presence& presence(size_t place) const;
  Record& record(size_t place, uint64_t ticket) const;
  void list_parts(const Op& op, Entry& entry) const;
  void require_fit(const Entry& entry, int rank, const Entered& theirs, const std::vector<uint64_t>& their_parts) const;

  const std::vector<int> here_;
  const int rank_;
  const size_t world_size_;
  size_t own_ = 0;
  void* memory_ = nullptr;
  uint64_t chain_ = 0;
};

}  // namespace c10d::ucc_shim
