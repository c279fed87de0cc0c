// What the end or the failure of another rank means for this one.
#pragma once

#include "ops/failure.h"
#include "peers/peer_message.h"

namespace c10d {

/// The connection of a rank ended without a message that says why.
Failure process_ended(int rank);
/// A rank left the group cleanly, and this one still needs it.
Failure left_group(int rank);

/// The failure of the group here after `message` from `rank` that it failed there.
Failure failure_from(int rank, const PeerMessage& message, int own_rank);
/// The same while the group is being made.
Failure creation_failure_from(int rank, const PeerMessage& message, int own_rank);

}  // namespace c10d
