// libucc, loaded when it is first needed.
#pragma once

#include <ucc/api/ucc.h>

#include <string>

#include "ops/failure.h"

namespace c10d::ucc_shim {

/// The functions of libucc that the shim calls.
struct Library {
  decltype(&::ucc_get_version_string) get_version_string;
  decltype(&::ucc_status_string) status_string;
  decltype(&::ucc_lib_config_read) lib_config_read;
  decltype(&::ucc_lib_config_release) lib_config_release;
  decltype(&::ucc_init_version) init_version;
  decltype(&::ucc_finalize) finalize;
  decltype(&::ucc_context_config_read) context_config_read;
  decltype(&::ucc_context_config_release) context_config_release;
  decltype(&::ucc_context_create) context_create;
  decltype(&::ucc_context_progress) context_progress;
  decltype(&::ucc_context_destroy) context_destroy;
  decltype(&::ucc_team_create_post) team_create_post;
  decltype(&::ucc_team_create_test) team_create_test;
  decltype(&::ucc_team_destroy) team_destroy;
  decltype(&::ucc_dt_create_generic) dt_create_generic;
  decltype(&::ucc_collective_init) collective_init;
  decltype(&::ucc_collective_post) collective_post;
  decltype(&::ucc_collective_finalize) collective_finalize;

  /// Why it could not be loaded; empty if it could.
  std::string missing;
};

/// Loads libucc at the first call, from any thread.
const Library& load_library();

/// The library; throws Failure if it could not be loaded.
const Library& library();

/// Throws Failure with `what` and the library's own text unless `status` is UCC_OK.
void require(ucc_status_t status, const std::string& what);

/// A failure with this c10d_status, whose text is `what`, the library's text for the status, and what it logged on this
/// thread.
Failure failure_of(ucc_status_t status, const std::string& what, int32_t as);

}  // namespace c10d::ucc_shim
