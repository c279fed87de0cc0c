#include "fake_worker.h"

#include <map>
#include <stdexcept>
#include <utility>

using Callback = napi_value__* (*)(napi_env__*, struct napi_callback_info__*);

/// A number or a function; the values of an environment live until it ends.
struct napi_value__ {
  double number = 0;
  Callback call = nullptr;
  void* data = nullptr;
  std::map<std::string, napi_value__*> properties;
};

struct napi_callback_info__ {
  std::vector<napi_value__*> arguments;
  void* data;
};

struct napi_env__ {
  std::vector<std::unique_ptr<napi_value__>> values;
  void (*hook)(void*) = nullptr;
  void* hook_data = nullptr;

  napi_value__* make() {
    values.push_back(std::make_unique<napi_value__>());
    return values.back().get();
  }
};

// The symbols of its host that the shim uses, as Bun exports them.
#define C10D_HOST __attribute__((visibility("default")))
extern "C" {
napi_value__* napi_register_module_v1(napi_env__* env, napi_value__* exports);

C10D_HOST int napi_add_env_cleanup_hook(napi_env__* env, void (*hook)(void*), void* data) {
  env->hook = hook;
  env->hook_data = data;
  return 0;
}
C10D_HOST int napi_create_double(napi_env__* env, double value, napi_value__** result) {
  *result = env->make();
  (*result)->number = value;
  return 0;
}
C10D_HOST int napi_create_function(napi_env__* env, const char*, size_t, Callback call, void* data,
                                   napi_value__** result) {
  *result = env->make();
  (*result)->call = call;
  (*result)->data = data;
  return 0;
}
C10D_HOST int napi_get_cb_info(napi_env__*, napi_callback_info__* info, size_t* count, napi_value__** arguments,
                               napi_value__**, void** data) {
  const size_t given = info->arguments.size();
  for (size_t i = 0; i < *count && i < given; i++) arguments[i] = info->arguments[i];
  *count = given;
  *data = info->data;
  return 0;
}
C10D_HOST int napi_get_value_double(napi_env__*, napi_value__* value, double* result) {
  *result = value->number;
  return 0;
}
C10D_HOST int napi_set_named_property(napi_env__*, napi_value__* object, const char* name, napi_value__* value) {
  object->properties[name] = value;
  return 0;
}
}

namespace c10d::test {

FakeWorker::FakeWorker()
    : env_(std::make_unique<napi_env__>()), exports_(napi_register_module_v1(env_.get(), env_->make())) {
  if (exports_ == nullptr) throw std::runtime_error("the module was not created");
}

FakeWorker::~FakeWorker() { end(); }

c10d_group* FakeWorker::create(const c10d_config& config) {
  return reinterpret_cast<c10d_group*>(static_cast<uintptr_t>(call("create", {number_of(&config)})));
}

double FakeWorker::close(c10d_group* group, double timeout_ms) { return call("close", {number_of(group), timeout_ms}); }

double FakeWorker::address() { return exports_->properties.at("address")->number; }

void FakeWorker::end() {
  if (env_->hook != nullptr) std::exchange(env_->hook, nullptr)(env_->hook_data);
}

double FakeWorker::call(const char* name, const std::vector<double>& arguments) {
  const napi_value__* function = exports_->properties.at(name);
  napi_callback_info__ info{{}, function->data};
  for (const double argument : arguments) {
    info.arguments.push_back(env_->make());
    info.arguments.back()->number = argument;
  }
  return function->call(env_.get(), &info)->number;
}

}  // namespace c10d::test
