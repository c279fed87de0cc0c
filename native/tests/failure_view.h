// Failures as tests read them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "c10d.h"

namespace c10d::test {

struct FailureView {
  int32_t status = C10D_OK;
  uint32_t mismatch = C10D_MISMATCH_NONE;
  int32_t system_error = 0;
  int32_t peer = -1;
  std::vector<int32_t> ranks;
  std::string text;
};

/// The failure that a function of the ABI writes; `call(c10d_failure*)` calls it.
template <class Call>
FailureView view_failure(Call call) {
  int32_t ranks[64];
  char text[2048];
  c10d_failure failure{};
  failure.size = sizeof failure;
  failure.ranks = reinterpret_cast<uint64_t>(ranks);
  failure.rank_capacity = 64;
  failure.text = reinterpret_cast<uint64_t>(text);
  failure.text_capacity = sizeof text;
  call(&failure);
  return {failure.status,
          failure.mismatch,
          failure.system_error,
          failure.peer,
          {ranks, ranks + std::min(failure.rank_count, failure.rank_capacity)},
          {text, failure.text_bytes}};
}

/// That of an op, which can be taken once; that of the group for op 0.
inline FailureView take_failure(c10d_group* group, uint64_t id) {
  return view_failure([&](c10d_failure* failure) { c10d_take_failure(group, id, failure); });
}

inline FailureView last_failure() {
  return view_failure([](c10d_failure* failure) { c10d_last_failure(failure); });
}

inline std::string last_error() { return last_failure().text; }

}  // namespace c10d::test
