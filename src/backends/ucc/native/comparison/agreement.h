// The ranks of a group on several hosts compare their calls over UCC itself, before a collective touches its data.
// Ranks of one host use the CallTable.
#pragma once

#include <ucc/api/ucc.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ops/call_text.h"
#include "ops/op.h"
#include "request.h"

namespace c10d::ucc_shim {

/// Where and how the ranks of a group compare.
struct ComparisonSetup {
  int rank;
  int world_size;
  /// Only for comparisons, which begin in the order of the calls. So they may run ahead of the collectives, which have
  /// the same order on their own team.
  ucc_team_h comparisons;
  ucc_team_h collectives;
  /// Whether the ranks gather the calls of all, together with the data of small ops. Otherwise they compare hashes.
  bool gathers;

  /// Whether gathering pays off in a group of this size.
  static bool suits_gathering(int world_size);
};

/// The comparison for one collective. What the ranks exchange does not depend on the op, so ranks that are out of step
/// only ever read each other's calls.
class Agreement {
 public:
  explicit Agreement(const ComparisonSetup& setup) : in_(setup) {}

  /// Sends the call of this rank. Called in the order of its collectives. Throws Failure.
  void begin(const Op& op);

  /// The status of the pending requests: UCC_OK when decide() has something to do.
  ucc_status_t test() const;

  /// Whether all ranks have made the same call; if that is not known yet, more requests are pending now. Called in the
  /// order of the collectives. Throws Failure if they have not, the same one on all ranks.
  bool decide(const Op& op);

  /// Whether the data of all ranks arrived with the calls, so that finish() completes the op.
  bool carries_data() const { return carries_data_; }
  void finish(const Op& op);

 private:
  struct Header {
    Call call;
    /// Whether the data of a small op follows.
    uint64_t carries_data = 0;
  };
  static_assert(sizeof(Header) % 16 == 0, "the data that follows is aligned for every dtype");

  enum class Stage : uint8_t { gathering, hashing, explaining, agreed };

  /// The slot of a rank: a header; for an all-to-all the bytes sent to and expected from each rank; data.
  static constexpr size_t parts_at() { return sizeof(Header); }
  size_t data_at() const { return parts_at() + 2 * static_cast<size_t>(in_.world_size) * sizeof(uint64_t); }
  size_t slot_bytes(bool with_data) const;
  uint8_t* slot(int rank);
  Header header_of(int rank);
  /// Bytes that a rank sends to another one, or expects from it, in an all-to-all.
  uint64_t part(int rank, int other, bool sent);

  void write_slot(const Op& op, bool with_data);
  void gather(ucc_team_h team);
  void hash(const Op& op);
  bool hashes_agree() const;
  void compare_slots();
  void compare(int rank, int other);
  void release();

  const ComparisonSetup in_;
  Stage stage_ = Stage::agreed;
  bool carries_data_ = false;
  bool is_all_to_all_ = false;
  std::vector<Request> requests_;
  std::vector<uint8_t> own_;
  std::vector<uint8_t> slots_;
  size_t slot_bytes_ = 0;
  /// The maximum of a hash and of its complement over the ranks, which match if all hashes are equal; and the sum of
  /// the hashes of what is sent, minus those of what is expected.
  uint64_t extremes_[2] = {0, 0};
  uint64_t difference_ = 0;
};

}  // namespace c10d::ucc_shim
