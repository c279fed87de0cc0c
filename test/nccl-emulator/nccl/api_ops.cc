// Collectives, messages and reduction operations.
#include <cstring>

#include "cuda_emulator.h"
#include "group.h"
#include "handle.h"
#include "injected_faults.h"
#include "report.h"
#include "version.h"

using namespace nccl_emulator;

namespace {

uint64_t address(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

ncclResult_t check_buffer(const Communicator& communicator, const char* call, const char* name, uint64_t buffer,
                          size_t bytes) {
  if (bytes == 0 || cuemu_alias(communicator.device, buffer, bytes)) return ncclSuccess;
  int device = cuemu_device_of(buffer);
  auto* pointer = reinterpret_cast<void*>(buffer);
  if (device < 0) return misuse(ncclInvalidArgument, "%s : %s %p is not a valid pointer", call, name, pointer);
  if (device != communicator.device)
    return misuse(ncclInvalidArgument, "%s : %s allocated on device %d mismatchs with NCCL device %d", call, name,
                  device, communicator.device);
  return misuse(ncclInvalidArgument, "%s : %s %p is not device memory of %zu bytes", call, name, pointer, bytes);
}

ncclResult_t check_place(const Communicator& communicator, const char* call, cudaStream_t stream) {
  if (int device = cuemu_current_device(); device != communicator.device)
    return misuse(ncclInvalidUsage, "%s : current device is %d, that of the communicator %d", call, device,
                  communicator.device);
  if (int device = cuemu_stream_device(stream); device != communicator.device)
    return misuse(ncclInvalidArgument, "%s : stream %p is of device %d, the communicator of %d", call,
                  static_cast<void*>(stream), device, communicator.device);
  return ncclSuccess;
}

ncclResult_t check_arguments(Communicator& communicator, const char* call, ncclRedOp_t redop, Op* op) {
  if (op->root < 0 || op->root >= communicator.ranks)
    return refuse(ncclInvalidArgument, "%s : invalid root %d (root should be in the 0..%d range)", call, op->root,
                  communicator.ranks);
  if (op->dtype < 0 || op->dtype >= dtypes_of_release())
    return refuse(ncclInvalidArgument, "%s : invalid type %d", call, static_cast<int>(op->dtype));
  if (auto result = communicator.find_redop(redop, op->dtype, call, &op->redop); result != ncclSuccess) return result;
  if (op->redop.factor_address != 0 &&
      !cuemu_alias(communicator.device, op->redop.factor_address, element_size(op->dtype)))
    return misuse(ncclInvalidArgument, "%s : the factor of the reduction is not memory of device %d", call,
                  communicator.device);
  auto in = op->in_bytes(communicator.rank, communicator.ranks);
  auto out = op->out_bytes(communicator.rank, communicator.ranks);
  if (auto result = check_buffer(communicator, call, "sendbuff", op->in, in); result != ncclSuccess) return result;
  if (op->in == op->out && in == out) return ncclSuccess;
  return check_buffer(communicator, call, "recvbuff", op->out, out);
}

ncclResult_t enqueue(ncclComm_t handle, ncclRedOp_t redop, Op op) {
  auto* name = op_name(op.kind);
  auto& group = Group::of_thread();
  Call call(handle, name);
  if (call.result() != ncclSuccess) {
    group.fail(call.result());
    return call.result();
  }
  auto& communicator = call.communicator();
  auto result = group.call([&]() -> ncclResult_t {
    if (communicator.revoked) return misuse(ncclInvalidUsage, "%s: communicator was revoked", name);
    if (auto ready = call.ready(); ready != ncclSuccess) return ready;
    if (communicator.finalized || communicator.suspended)
      return misuse(ncclInvalidUsage, "%s : communicator is finalized or suspended", name);
    if (auto place = check_place(communicator, name, op.stream); place != ncclSuccess) return place;
    if (auto arguments = check_arguments(communicator, name, redop, &op); arguments != ncclSuccess) return arguments;
    const auto launch = [&](Op each) {
      communicator.number(&each);
      auto& faults = InjectedFaults::of_process();
      if (faults.concern(communicator.rank)) {
        each.hangs = each.index == faults.hang;
        if (each.index == faults.internal) return refuse(ncclInternalError, "NCCL emulator: injected internal error");
      }
      if (!cuemu_null_mode()) group.add(call.body(), each);
      return ncclSuccess;
    };
    if (op.kind != OpKind::all_to_all) return launch(op);
    // As NVIDIA's library: a message to and from each rank. So ranks that send these themselves take part.
    for (int peer = 0; op.count > 0 && peer < communicator.ranks; peer++) {
      const auto offset = static_cast<size_t>(peer) * op.bytes();
      const Op out{OpKind::send, op.in + offset, 0, op.count, op.dtype, op.redop, peer, op.stream};
      if (auto result = launch(out); result != ncclSuccess) return result;
      const Op in{OpKind::recv, 0, op.out + offset, op.count, op.dtype, op.redop, peer, op.stream};
      if (auto result = launch(in); result != ncclSuccess) return result;
    }
    return ncclSuccess;
  });
  // As NCCL: a refused call is the end of a communicator that does not block.
  bool error = result != ncclSuccess && result != ncclInProgress;
  if (error && !communicator.blocking() && communicator.state(false) == ncclSuccess) communicator.fail(result);
  return result;
}

}  // namespace

ncclResult_t ncclAllReduce(const void* send, void* recv, size_t count, ncclDataType_t dtype, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  return enqueue(comm, op, {OpKind::all_reduce, address(send), address(recv), count, dtype, {}, 0, stream});
}

ncclResult_t ncclReduce(const void* send, void* recv, size_t count, ncclDataType_t dtype, ncclRedOp_t op, int root,
                        ncclComm_t comm, cudaStream_t stream) {
  return enqueue(comm, op, {OpKind::reduce, address(send), address(recv), count, dtype, {}, root, stream});
}

ncclResult_t ncclBroadcast(const void* send, void* recv, size_t count, ncclDataType_t dtype, int root, ncclComm_t comm,
                           cudaStream_t stream) {
  return enqueue(comm, ncclSum, {OpKind::broadcast, address(send), address(recv), count, dtype, {}, root, stream});
}

ncclResult_t ncclBcast(void* buffer, size_t count, ncclDataType_t dtype, int root, ncclComm_t comm,
                       cudaStream_t stream) {
  return ncclBroadcast(buffer, buffer, count, dtype, root, comm, stream);
}

ncclResult_t ncclAllGather(const void* send, void* recv, size_t count, ncclDataType_t dtype, ncclComm_t comm,
                           cudaStream_t stream) {
  return enqueue(comm, ncclSum, {OpKind::all_gather, address(send), address(recv), count, dtype, {}, 0, stream});
}

ncclResult_t ncclReduceScatter(const void* send, void* recv, size_t count, ncclDataType_t dtype, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream) {
  return enqueue(comm, op, {OpKind::reduce_scatter, address(send), address(recv), count, dtype, {}, 0, stream});
}

ncclResult_t ncclAlltoAll(const void* send, void* recv, size_t count, ncclDataType_t dtype, ncclComm_t comm,
                          cudaStream_t stream) {
  return enqueue(comm, ncclSum, {OpKind::all_to_all, address(send), address(recv), count, dtype, {}, 0, stream});
}

ncclResult_t ncclGather(const void* send, void* recv, size_t count, ncclDataType_t dtype, int root, ncclComm_t comm,
                        cudaStream_t stream) {
  return enqueue(comm, ncclSum, {OpKind::gather, address(send), address(recv), count, dtype, {}, root, stream});
}

ncclResult_t ncclScatter(const void* send, void* recv, size_t count, ncclDataType_t dtype, int root, ncclComm_t comm,
                         cudaStream_t stream) {
  return enqueue(comm, ncclSum, {OpKind::scatter, address(send), address(recv), count, dtype, {}, root, stream});
}

ncclResult_t ncclSend(const void* send, size_t count, ncclDataType_t dtype, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return enqueue(comm, ncclSum, {OpKind::send, address(send), 0, count, dtype, {}, peer, stream});
}

ncclResult_t ncclRecv(void* recv, size_t count, ncclDataType_t dtype, int peer, ncclComm_t comm, cudaStream_t stream) {
  return enqueue(comm, ncclSum, {OpKind::recv, 0, address(recv), count, dtype, {}, peer, stream});
}

ncclResult_t ncclRedOpCreatePreMulSum(ncclRedOp_t* op, void* scalar, ncclDataType_t dtype,
                                      ncclScalarResidence_t residence, ncclComm_t comm) {
  Call call(comm, "ncclRedOpCreatePreMulSum");
  if (auto result = call.ready(); result != ncclSuccess) return result;
  if (auto result = check_pointer(op, "ncclRedOpCreatePreMulSum", "op"); result != ncclSuccess) return result;
  if (auto result = check_pointer(scalar, "ncclRedOpCreatePreMulSum", "scalar"); result != ncclSuccess) return result;
  if (dtype < 0 || dtype >= dtypes_of_release())
    return refuse(ncclInternalError, "ncclRedOpCreatePreMulSum : invalid type %d", static_cast<int>(dtype));
  RedOp redop;
  redop.code = ncclNumOps;
  redop.reduction = Reduction::premultiplied_sum;
  if (residence == ncclScalarHostImmediate) {
    if (cuemu_device_of(address(scalar)) >= 0)
      return misuse(ncclInvalidArgument, "ncclRedOpCreatePreMulSum : the scalar is in device memory, not the host's");
    memcpy(redop.factor.data(), scalar, element_size(dtype));
  } else {
    redop.factor_address = address(scalar);
  }
  *op = call.communicator().add_redop(redop, dtype);
  return ncclSuccess;
}

ncclResult_t ncclRedOpDestroy(ncclRedOp_t op, ncclComm_t comm) {
  if (op >= 0 && op < ncclNumOps) return misuse(ncclInvalidArgument, "ncclRedOpDestroy : operator is a NCCL builtin.");
  if (op < 0) return misuse(ncclInvalidArgument, "ncclRedOpDestroy :  operator is garbage.");
  if (!comm) return misuse(ncclInvalidArgument, "ncclRedOpDestroy : invalid communicator passed.");
  Call call(comm, "ncclRedOpDestroy");
  if (call.result() != ncclSuccess) return call.result();
  if (call.communicator().remove_redop(op)) return ncclSuccess;
  return misuse(ncclInvalidArgument, "ncclRedOpDestroy : operator unknown to this communicator.");
}
