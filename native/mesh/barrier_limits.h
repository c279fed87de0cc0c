// How long the ranks of a monitored barrier wait, and what it fails with.
#pragma once

#include <vector>

#include "engine/failure.h"
#include "engine/op.h"

namespace c10d {

/// Gives rank 0 time beyond its limit to name the ranks, which the engine could not.
void give_grace(Op& op);

/// When rank 0, which has grace, and the others give up by themselves.
Clock::time_point own_deadline_of_first(const Op& op);
Clock::time_point own_deadline_of_others(const Op& op);

/// What rank 0 fails with: these have not come, at least one.
Failure not_passed(const Op& op, const std::vector<int>& missing);
/// What the others fail with.
Failure no_answer();

}  // namespace c10d
