// How long the ranks of a monitored barrier wait, and how it fails.
#pragma once

#include <vector>

#include "ops/failure.h"
#include "ops/op.h"

namespace c10d {

/// Gives rank 0 time beyond its time-out to name the missing ranks, which the engine cannot do.
void give_grace(Op& op);

/// When rank 0, whose deadline includes the grace time, and the other ranks give up.
Clock::time_point own_deadline_of_first(const Op& op);
Clock::time_point own_deadline_of_others(const Op& op);

/// How rank 0 fails: `missing`, at least one, have not arrived.
Failure not_passed(const Op& op, const std::vector<int>& missing);
/// How the others fail.
Failure no_answer();

}  // namespace c10d
