// A posted collective of libucc.
#pragma once

#include <ucc/api/ucc.h>

#include <cstddef>
#include <cstdint>

namespace c10d::ucc_shim {

/// UCC cannot cancel it: its buffers and arguments must stay until it has ended.
class Request {
 public:
  /// Posts it. Throws Failure, with C10D_ERR_UNSUPPORTED if UCC does not have the collective.
  Request(ucc_team_h team, ucc_coll_args_t& args);

  /// UCC_INPROGRESS until it has ended.
  ucc_status_t test() const;
  /// Frees a request that has ended. Throws Failure.
  void release();

 private:
  ucc_coll_req_h handle_ = nullptr;
  bool keeps_status_ = true;
};

/// Bytes in host memory.
ucc_coll_buffer_info_t bytes_at(const void* data, uint64_t bytes);

}  // namespace c10d::ucc_shim
