#include "library.h"

#include <dlfcn.h>

#include <cstdlib>

#include "log.h"

namespace c10d::ucc_shim {

namespace {

/// UCX reads these when it is loaded; values that the user has set stay.
void set_defaults() {
  // Its handlers for SIGSEGV and similar signals would replace those of the host, which JavaScript engines depend on.
  ::setenv("UCX_ERROR_SIGNALS", "", 0);
  // Otherwise it patches the machine code of mmap() and similar functions, which takes 0.4 s. That makes RDMA faster,
  // which then registers memory only once, but is of no use on one host.
  ::setenv("UCX_MEM_MMAP_HOOK_MODE", "none", 0);
  // Its SysV segments are accessible to the user's group; those of the transport "posix", which does the same job, are
  // not.
  ::setenv("UCX_TLS", "^sysv", 0);
  // By default the logs go to standard output, among what the program prints.
  ::setenv("UCX_LOG_FILE", "stderr", 0);
  ::setenv("UCC_LOG_FILE", "stderr", 0);
  // Variables for another program's UCX are no reason for a warning.
  ::setenv("UCX_WARN_UNUSED_ENV_VARS", "n", 0);
}

template <class Function>
void bind(Library& to, void* handle, Function& function, const char* name) {
  function = reinterpret_cast<Function>(::dlsym(handle, name));
  if (function == nullptr && to.missing.empty()) to.missing = std::string("libucc.so.1 has no ") + name;
}

Library open() {
  Library found{};
  set_defaults();
  void* handle = ::dlopen("libucc.so.1", RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* reason = ::dlerror();
    found.missing = reason == nullptr ? "libucc.so.1 cannot be loaded" : reason;
    return found;
  }
  listen_to_log(handle);
  bind(found, handle, found.get_version_string, "ucc_get_version_string");
  bind(found, handle, found.status_string, "ucc_status_string");
  bind(found, handle, found.lib_config_read, "ucc_lib_config_read");
  bind(found, handle, found.lib_config_release, "ucc_lib_config_release");
  bind(found, handle, found.init_version, "ucc_init_version");
  bind(found, handle, found.finalize, "ucc_finalize");
  bind(found, handle, found.context_config_read, "ucc_context_config_read");
  bind(found, handle, found.context_config_release, "ucc_context_config_release");
  bind(found, handle, found.context_create, "ucc_context_create");
  bind(found, handle, found.context_progress, "ucc_context_progress");
  bind(found, handle, found.context_destroy, "ucc_context_destroy");
  bind(found, handle, found.team_create_post, "ucc_team_create_post");
  bind(found, handle, found.team_create_test, "ucc_team_create_test");
  bind(found, handle, found.team_destroy, "ucc_team_destroy");
  bind(found, handle, found.dt_create_generic, "ucc_dt_create_generic");
  bind(found, handle, found.collective_init, "ucc_collective_init");
  bind(found, handle, found.collective_post, "ucc_collective_post");
  bind(found, handle, found.collective_finalize, "ucc_collective_finalize");
  return found;
}

}  // namespace

const Library& load_library() {
  static const Library loaded = open();
  return loaded;
}

const Library& library() {
  const Library& loaded = load_library();
  if (!loaded.missing.empty()) throw Failure(C10D_ERR_BACKEND, "UCC is not available: " + loaded.missing);
  return loaded;
}

Failure failure_of(ucc_status_t status, const std::string& what, int32_t as) {
  std::string text = what + ": " + library().status_string(status) + " (UCC status " + std::to_string(status) + ")";
  // The status says little more than that something failed.
  const std::string logged = take_logged_error();
  if (!logged.empty()) text += ", the log says: " + logged;
  return Failure::of_shortage(text, system_error_in(logged), as);
}

void require(ucc_status_t status, const std::string& what) {
  if (status != UCC_OK) throw failure_of(status, what, C10D_ERR_BACKEND);
}

}  // namespace c10d::ucc_shim
