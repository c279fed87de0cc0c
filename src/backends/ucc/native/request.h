// A collective of libucc that was posted.
#pragma once

#include <ucc/api/ucc.h>

#include <cstddef>
#include <cstdint>

namespace c10d::ucc_shim {

/// UCC cannot cancel one: what it was posted with stays until it has ended.
class Request {
 public:
  /// Posts it. Throws Failure, with C10D_ERR_UNSUPPORTED where UCC has no such collective.
  Request(ucc_team_h team, ucc_coll_args_t& args);

  /// UCC_INPROGRESS until it has ended.
  ucc_status_t test() const;
  /// Gives one that has ended back. Throws Failure.
  void release();

 private:
  ucc_coll_req_h handle_ = nullptr;
  bool keeps_status_ = true;
};

/// Bytes in host memory.
ucc_coll_buffer_info_t bytes_at(const void* data, uint64_t bytes);

}  // namespace c10d::ucc_shim
