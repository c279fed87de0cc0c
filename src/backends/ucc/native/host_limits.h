// Limits and permissions of the host that UCX does not handle itself.
#pragma once

namespace c10d::ucc_shim {

/// Throws Failure if the process can open too few file descriptors for another group, in which case UCX would abort it.
void require_descriptors();

/// Removes the access of other users to the SysV segments of this process. UCX creates them with mode 0660, but only if
/// the user's settings enable them.
void restrict_segments();

}  // namespace c10d::ucc_shim
