// What UCX does not see to itself on the host.
#pragma once

namespace c10d::ucc_shim {

/// Throws Failure if the process may open too few file descriptors for another group: UCX aborts the process then.
void require_descriptors();

/// Takes the access of other users from the SysV segments of this process. UCX makes them with mode 0660; where the user's
/// settings do not choose it, it makes none.
void restrict_segments();

}  // namespace c10d::ucc_shim
