// Ranks in processes of their own, for tests of the emulated NCCL.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "cuda_emulator.h"
#include "driver_api.h"
#include "nccl_api.h"

namespace nccl_test {

/// Fails the rank, with a text.
void require(bool condition, const std::string& what);
void require_result(ncclResult_t result, ncclResult_t expected, const std::string& what);
inline void ok(ncclResult_t result, const std::string& what) { require_result(result, ncclSuccess, what); }
inline void cuda_ok(CUresult result, const std::string& what) { require(result == CUDA_SUCCESS, what); }
std::string last_fault();

/// Forks `ranks` processes that each run `body`, and waits for them. Gives the texts of those that failed, "" if none.
/// `expected_kills`: ranks that kill themselves.
std::string run_ranks(int ranks, const std::function<void(int)>& body, const std::vector<int>& expected_kills = {});

/// One rank on its device: context, stream, communicator.
class Rank {
 public:
  /// The device is that of the rank. Nothing else is made.
  explicit Rank(int device);
  Rank(int device, int ranks, const ncclUniqueId& id, int rank, ncclConfig_t* config = nullptr);

  CUstream new_stream();
  uint64_t allocate(size_t bytes);
  uint64_t upload(const std::vector<char>& bytes);
  /// Waits for the stream.
  std::vector<char> download(uint64_t address, size_t bytes);
  void write(uint64_t address, const std::vector<char>& bytes);
  void synchronize() { cuda_ok(cuStreamSynchronize(stream), "stream synchronize"); }
  /// Polls until the communicator is no longer in progress.
  static ncclResult_t settle(ncclComm_t comm);
  /// No fault of the program was recorded.
  static void require_no_fault();
  /// A fault with this text was recorded since the last call of this.
  void require_fault(const std::string& text);

  int device;
  CUstream stream = nullptr;
  ncclComm_t comm = nullptr;

 private:
  uint64_t faults_ = 0;
};

ncclConfig_t config_initializer();
inline void* pointer(uint64_t address) { return reinterpret_cast<void*>(address); }

template <class T>
std::vector<char> bytes_of(const std::vector<T>& values) {
  std::vector<char> bytes(values.size() * sizeof(T));
  memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

template <class T>
std::vector<T> values_of(const std::vector<char>& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace nccl_test
