// The ops of a group by id: ids are consecutive, so a growing ring of slots is enough. Op objects are reused.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "ops/op.h"

namespace c10d {

class OpTable {
 public:
  /// An unused op, which is not in the table yet.
  std::unique_ptr<Op> make();
  /// Gives `op` the next id and inserts it.
  Op& insert(std::unique_ptr<Op> op);
  /// The op with this id, or nullptr if it was removed or never existed.
  Op* find(uint64_t id) const;
  /// Removes an op, for reuse.
  void remove(uint64_t id);
  uint64_t next_id() const { return next_; }

  /// Calls `visit(Op&)` for each op in the order of ids.
  template <class Visit>
  void each(Visit visit) {
    for (uint64_t id = first_; id < next_; id++) {
      if (Op* op = find(id)) visit(*op);
    }
  }

 private:
  void grow();

  std::vector<std::unique_ptr<Op>> slots_ = std::vector<std::unique_ptr<Op>>(64);
  std::vector<std::unique_ptr<Op>> spare_;
  uint64_t first_ = 1;
  uint64_t next_ = 1;
};

}  // namespace c10d
