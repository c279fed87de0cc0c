// Streams of a program may access device memory at the same time. That is its bug or its wish, but no data race of the
// emulator's threads, which do the work of the streams.
extern "C" __attribute__((visibility("default"), used)) const char* __tsan_default_suppressions();

extern "C" const char* __tsan_default_suppressions() {
  return "race:nccl-emulator/cuda/copies.cc\nrace:nccl-emulator/nccl/op_run.cc\n";
}
