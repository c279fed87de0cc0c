#include "services.h"

namespace c10d::nccl_shim {

namespace {

void require(NcclResult result, NcclComm comm, const char* what) {
  if (result != NcclResult::success && result != NcclResult::in_progress) throw nccl_failure(result, comm, what);
}

bool is_refusal(NcclResult result) {
  return result == NcclResult::invalid_argument || result == NcclResult::invalid_usage;
}

/// The same for memory that NCCL may not be able to use: when it says so at once, it has done nothing with it.
void require_taken(NcclResult result, NcclComm comm, const char* what) {
  if (!is_refusal(result)) return require(result, comm, what);
  throw Failure(C10D_ERR_INVALID, "NCCL refuses the memory: " + nccl_failure(result, comm, what).text());
}

}  // namespace

void Services::serve(const Op& op) {
  const auto& nccl = load_library().nccl;
  const NcclComm comm = communicator_.get();
  const auto& buffer = op.outputs[0];
  auto* const memory = reinterpret_cast<void*>(buffer.address);
  const std::lock_guard<std::mutex> lock(mutex_);
  switch (op.request.opcode) {
    case C10D_SERVICE_REGISTER_MEMORY: {
      const auto [at, is_new] = registered_.emplace(buffer.address, nullptr);
      if (!is_new) throw Failure(C10D_ERR_INVALID, "the memory is registered already");
      const auto result = nccl.comm_register(comm, memory, buffer.bytes, &at->second);
      if (result != NcclResult::success) registered_.erase(at);
      return require_taken(result, comm, "ncclCommRegister");
    }
    case C10D_SERVICE_DEREGISTER_MEMORY: {
      const auto found = registered_.find(buffer.address);
      if (found == registered_.end()) throw Failure(C10D_ERR_INVALID, "the memory is not registered");
      void* const handle = found->second;
      registered_.erase(found);
      return require(nccl.comm_deregister(comm, handle), comm, "ncclCommDeregister");
    }
    case C10D_SERVICE_OPEN_WINDOW: {
      const auto [at, is_new] = windows_.emplace(buffer.address, nullptr);
      if (!is_new) throw Failure(C10D_ERR_INVALID, "the window is open already");
      const auto result = nccl.comm_window_register(comm, memory, buffer.bytes, &at->second, kNcclWindowDefault);
      // NCCL may still write to it after another error.
      if (is_refusal(result)) windows_.erase(at);
      return require_taken(result, comm, "ncclCommWindowRegister");
    }
    default: {
      const auto found = windows_.find(buffer.address);
      if (found == windows_.end()) throw Failure(C10D_ERR_INVALID, "there is no such window");
      const NcclWindow window = found->second;
      windows_.erase(found);
      // NCCL gives none where peers cannot access each other's memory.
      if (window == nullptr) return;
      return require(nccl.comm_window_deregister(comm, window), comm, "ncclCommWindowDeregister");
    }
  }
}

bool Services::has_window(uint64_t address) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return windows_.count(address) > 0;
}

}  // namespace c10d::nccl_shim
