// Beside FakeGPU's libnccl.so.2, for test/gpu/fakegpu: functions without which PyTorch 2.14 does not load, and which it
// does not call here. They refuse.

enum { kInvalidUsage = 5 };

int ncclCommGetUniqueId(void);
int ncclCommGrow(void);
int ncclCommRevoke(void);
int ncclGather(void);
int ncclWinGetUserPtr(void);

int ncclCommGetUniqueId(void) { return kInvalidUsage; }
int ncclCommGrow(void) { return kInvalidUsage; }
int ncclCommRevoke(void) { return kInvalidUsage; }
int ncclGather(void) { return kInvalidUsage; }
int ncclWinGetUserPtr(void) { return kInvalidUsage; }
