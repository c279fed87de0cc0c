// A thread of a host that has loaded the shim as a Node-API module, in an environment of its own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "c10d.h"

struct napi_env__;
struct napi_value__;

namespace c10d::test {

/// Groups that were created here are closed when it ends, at the latest in the destructor.
class FakeWorker {
 public:
  FakeWorker();
  ~FakeWorker();
  FakeWorker(const FakeWorker&) = delete;
  FakeWorker& operator=(const FakeWorker&) = delete;

  /// As c10d_create and c10d_close.
  c10d_group* create(const c10d_config& config);
  double close(c10d_group* group, double timeout_ms);
  /// The address of c10d_close that the module exports.
  double address();
  /// What the host does last on this thread, while its memory still exists.
  void end();

 private:
  double call(const char* name, const std::vector<double>& arguments);

  std::unique_ptr<napi_env__> env_;
  napi_value__* exports_;
};

/// An address as the host sees it.
template <class Object>
double number_of(Object* object) {
  return static_cast<double>(reinterpret_cast<uintptr_t>(object));
}

}  // namespace c10d::test
