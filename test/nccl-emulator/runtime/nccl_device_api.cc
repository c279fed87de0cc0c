// NCCL's functions for kernels and signals, which PyTorch binds when it is loaded and the emulated NCCL has not. They
// refuse.

namespace {

constexpr int kInvalidUsage = 5;

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

int ncclDevCommCreate(...) { return kInvalidUsage; }
int ncclDevCommDestroy(...) { return kInvalidUsage; }
int ncclGetLsaMultimemDevicePointer(...) { return kInvalidUsage; }
int ncclGetPeerDevicePointer(...) { return kInvalidUsage; }
int ncclPutSignal(...) { return kInvalidUsage; }
int ncclSignal(...) { return kInvalidUsage; }
int ncclWaitSignal(...) { return kInvalidUsage; }

}  // extern "C"
#pragma GCC visibility pop
