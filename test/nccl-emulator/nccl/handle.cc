#include "handle.h"

#include "report.h"

namespace nccl_emulator {

uint64_t thread_number() {
  static std::atomic<uint64_t> next{1};
  thread_local uint64_t number = next++;
  return number;
}

ncclResult_t check_pointer(const void* pointer, const char* call, const char* name) {
  if (pointer) return ncclSuccess;
  return refuse(ncclInvalidArgument, "%s : %s argument is NULL", call, name);
}

ncclResult_t find_communicator(ncclComm_t handle, const char* call, std::shared_ptr<Communicator>* body) {
  if (auto result = check_pointer(handle, call, "comm"); result != ncclSuccess) return result;
  if (handle->magic != handle_magic) return misuse(ncclInvalidArgument, "Error: corrupted comm object detected");
  if (handle->ended.load())
    return misuse(ncclInvalidArgument, "%s : comm %p has already been destroyed", call, static_cast<void*>(handle));
  *body = handle->body;
  return ncclSuccess;
}

Inside::Inside(std::shared_ptr<Communicator> communicator, const char* call) {
  uint64_t nobody = 0;
  if (communicator->caller.compare_exchange_strong(nobody, thread_number())) {
    communicator->call_of_caller = call;
    communicator_ = std::move(communicator);
  } else if (nobody != thread_number()) {
    const char* other = communicator->call_of_caller;
    misuse(ncclInvalidUsage, "%s is called while another thread is inside %s of the same communicator", call,
           other ? other : "a call");
  }
}

Inside::Inside(Inside&& other) noexcept : communicator_(std::move(other.communicator_)) {}

Inside::~Inside() {
  if (communicator_) communicator_->caller = 0;
}

bool others_inside(const Communicator& communicator) {
  auto caller = communicator.caller.load();
  return caller != 0 && caller != thread_number();
}

Call::Call(ncclComm_t handle, const char* name) : name_(name), result_(find_communicator(handle, name, &body_)) {
  if (result_ == ncclSuccess) inside_.emplace(body_, name);
}

ncclResult_t Call::ready() {
  if (result_ != ncclSuccess) return result_;
  auto state = body_->state(false);
  if (state != ncclInProgress) return state;
  return misuse(ncclInvalidArgument,
                "Attempt to use communicator before the previous operation returned ncclSuccess (%s)", name_);
}

}  // namespace nccl_emulator
