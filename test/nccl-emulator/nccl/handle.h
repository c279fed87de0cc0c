// Checks at the edge of the API: of handles, threads and states.
#pragma once

#include <optional>

#include "communicator.h"
#include "nccl_api.h"

namespace nccl_emulator {

constexpr uint64_t handle_magic = 0x4e43434c454d5531;

/// This thread is inside a call on a communicator. That two threads are, is a fault of the program.
class Inside {
 public:
  /// `call` as NCCL has it in texts of errors.
  Inside(std::shared_ptr<Communicator> communicator, const char* call);
  ~Inside();
  Inside(Inside&& other) noexcept;
  Inside& operator=(Inside&&) = delete;

 private:
  std::shared_ptr<Communicator> communicator_;  // Empty if the thread was inside before.
};

/// Whether another thread is inside.
bool others_inside(const Communicator& communicator);

/// A call of the program on a communicator.
class Call {
 public:
  Call(ncclComm_t handle, const char* name);
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  /// What is wrong with the handle.
  ncclResult_t result() const { return result_; }
  /// The same, and refuses a communicator in progress, or one that has failed.
  ncclResult_t ready();
  Communicator& communicator() const { return *body_; }
  const std::shared_ptr<Communicator>& body() const { return body_; }

 private:
  const char* name_;
  std::shared_ptr<Communicator> body_;
  ncclResult_t result_;
  std::optional<Inside> inside_;
};

/// The communicator of a handle; nothing about threads and states.
ncclResult_t find_communicator(ncclComm_t handle, const char* call, std::shared_ptr<Communicator>* body);

ncclResult_t check_pointer(const void* pointer, const char* call, const char* name);

/// A number of this thread, never 0.
uint64_t thread_number();

}  // namespace nccl_emulator
