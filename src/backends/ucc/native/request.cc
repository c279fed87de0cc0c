#include "request.h"

#include <algorithm>
#include <cstring>

#include "library.h"
#include "log.h"

namespace c10d::ucc_shim {

namespace {

ucc_status_t kept_status(ucc_coll_req_h request) {
  ucc_status_t kept = UCC_OK;
  std::memcpy(&kept, reinterpret_cast<const char*>(request) + sizeof(ucc_coll_req_t), sizeof kept);
  return kept;
}

}  // namespace

Request::Request(ucc_team_h team, ucc_coll_args_t& args) {
  if (args.flags != 0) args.mask |= UCC_COLL_ARGS_FIELD_FLAGS;
  const ucc_status_t status = library().collective_init(&args, &handle_, team);
  if (status == UCC_ERR_NOT_SUPPORTED || status == UCC_ERR_NOT_IMPLEMENTED) {
    // All ranks get the same answer, and none has sent anything.
    throw failure_of(status, "UCC cannot carry out the op", C10D_ERR_UNSUPPORTED);
  }
  require(status, "UCC does not begin the op");
  // If this UCC has another layout, only its log shows errors.
  keeps_status_ = kept_status(handle_) == UCC_OPERATION_INITIALIZED;
  require(library().collective_post(handle_), "UCC does not start the op");
}

/// For a reduction that has failed, UCC shows the status of the component that reduces (seen with 1.9:
/// ucc_task_complete() overwrites the status of the task with it). The task keeps its real status right after the
/// request.
ucc_status_t Request::test() const {
  const ucc_status_t shown = ucc_collective_test(handle_);
  if (shown != UCC_OK) return shown;
  if (!keeps_status_) return logged_error() ? UCC_ERR_NO_MESSAGE : shown;
  return std::min(kept_status(handle_), shown);
}

void Request::release() { require(library().collective_finalize(handle_), "UCC does not end the op"); }

ucc_coll_buffer_info_t bytes_at(const void* data, uint64_t bytes) {
  return {const_cast<void*>(data), bytes, UCC_DT_UINT8, UCC_MEMORY_TYPE_HOST};
}

}  // namespace c10d::ucc_shim
