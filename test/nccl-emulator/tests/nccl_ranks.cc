#include "nccl_ranks.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <stdexcept>
#include <thread>

// Under ThreadSanitizer each of the many ranks would wait a second for late reports at its end.
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_options() { return "atexit_sleep_ms=50"; }

namespace nccl_test {
namespace {

constexpr std::chrono::seconds longest_run(60);

struct Child {
  pid_t pid;
  int output;
};

// The rest of the process: it must not return into doctest.
[[noreturn]] void run_child(int output, int rank, const std::function<void(int)>& body) {
  std::string text;
  try {
    body(rank);
  } catch (const std::exception& error) {
    text = error.what();
  }
  if (!text.empty() && ::write(output, text.data(), text.size()) < 0) _exit(3);
  // Not exit(): the parent's test results are not this process's.
  _exit(text.empty() ? 0 : 1);
}

std::string read_all(int fd) {
  std::string text;
  char part[1024];
  for (ssize_t n; (n = read(fd, part, sizeof part)) > 0;) text.append(part, static_cast<size_t>(n));
  close(fd);
  return text;
}

// Its status, or that of SIGKILL after the time limit.
int wait_for(pid_t pid, std::chrono::steady_clock::time_point limit) {
  int status = 0;
  while (waitpid(pid, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > limit) {
      kill(pid, SIGKILL);
      waitpid(pid, &status, 0);
      return status;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return status;
}

}  // namespace

void require(bool condition, const std::string& what) {
  if (!condition) throw std::runtime_error(what);
}

void require_result(ncclResult_t result, ncclResult_t expected, const std::string& what) {
  require(result == expected, what + ": result " + std::to_string(result) + " instead of " + std::to_string(expected) +
                                  " (" + ncclGetLastError(nullptr) + ")");
}

std::string last_fault() {
  char text[1200] = "";
  cuemu_last_fault(text, sizeof text);
  return text;
}

std::string run_ranks(int ranks, const std::function<void(int)>& body, const std::vector<int>& expected_kills) {
  // A rank that exits as usual would print what is not printed yet, too.
  std::cout.flush();
  fflush(nullptr);
  std::vector<Child> children;
  for (int rank = 0; rank < ranks; rank++) {
    int ends[2];
    if (pipe(ends) != 0) throw std::runtime_error("pipe");
    pid_t pid = fork();
    if (pid == 0) {
      close(ends[0]);
      run_child(ends[1], rank, body);
    }
    close(ends[1]);
    children.push_back({pid, ends[0]});
  }
  auto limit = std::chrono::steady_clock::now() + longest_run;
  std::string failures;
  for (int rank = 0; rank < ranks; rank++) {
    auto& child = children[static_cast<size_t>(rank)];
    int status = wait_for(child.pid, limit);
    auto text = read_all(child.output);
    bool killed = WIFSIGNALED(status);
    bool expected = std::find(expected_kills.begin(), expected_kills.end(), rank) != expected_kills.end();
    if (killed && expected && text.empty()) continue;
    if (killed)
      text += " ended by signal " + std::to_string(WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0 && text.empty())
      text = "exit status " + std::to_string(WEXITSTATUS(status));
    if (!text.empty()) failures += "rank " + std::to_string(rank) + ": " + text + "\n";
  }
  return failures;
}

Rank::Rank(int device) : device(device) {
  CUcontext context = nullptr;
  cuda_ok(cuInit(0), "cuInit");
  cuda_ok(cuDevicePrimaryCtxRetain(&context, device), "primary context");
  cuda_ok(cuCtxSetCurrent(context), "set context");
  stream = new_stream();
  faults_ = cuemu_faults();
}

Rank::Rank(int device, int ranks, const ncclUniqueId& id, int rank, ncclConfig_t* config) : Rank(device) {
  auto result = ncclCommInitRankConfig(&comm, ranks, id, rank, config);
  if (result == ncclInProgress) result = settle(comm);
  ok(result, "init");
}

CUstream Rank::new_stream() {
  CUstream made = nullptr;
  cuda_ok(cuStreamCreateWithPriority(&made, CU_STREAM_NON_BLOCKING, 0), "stream");
  return made;
}

uint64_t Rank::allocate(size_t bytes) {
  CUdeviceptr address = 0;
  cuda_ok(cuMemAlloc_v2(&address, bytes), "allocation");
  return address;
}

void Rank::write(uint64_t address, const std::vector<char>& bytes) {
  cuda_ok(cuMemcpyHtoD_v2(address, bytes.data(), bytes.size()), "copy to the device");
  // Streams that do not block with the default one need not wait for it.
  cuda_ok(cuStreamSynchronize(nullptr), "default stream");
}

uint64_t Rank::upload(const std::vector<char>& bytes) {
  auto address = allocate(std::max<size_t>(bytes.size(), 1));
  if (!bytes.empty()) write(address, bytes);
  return address;
}

std::vector<char> Rank::download(uint64_t address, size_t bytes) {
  synchronize();
  std::vector<char> data(bytes);
  if (bytes > 0) cuda_ok(cuMemcpyDtoH_v2(data.data(), address, bytes), "copy to the host");
  return data;
}

ncclResult_t Rank::settle(ncclComm_t comm) {
  ncclResult_t state = ncclInProgress;
  while (state == ncclInProgress) {
    ok(ncclCommGetAsyncError(comm, &state), "asynchronous error");
    if (state == ncclInProgress) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return state;
}

void Rank::require_no_fault() { require(cuemu_faults() == 0, "fault: " + last_fault()); }

void Rank::require_fault(const std::string& text) {
  auto faults = cuemu_faults();
  require(faults > faults_, "no fault was recorded, but '" + text + "' was expected");
  faults_ = faults;
  require(last_fault().find(text) != std::string::npos, "fault '" + last_fault() + "' instead of '" + text + "'");
}

ncclConfig_t config_initializer() {
  ncclConfig_t config;
  memset(&config, 0, sizeof config);
  config.size = sizeof config;
  config.magic = NCCL_API_MAGIC;
  config.version = 23007;
  for (int* field : {&config.blocking, &config.cgaClusterSize, &config.minCTAs, &config.maxCTAs, &config.splitShare,
                     &config.trafficClass, &config.collnetEnable, &config.CTAPolicy, &config.shrinkShare,
                     &config.nvlsCTAs, &config.nChannelsPerNetPeer, &config.nvlinkCentricSched, &config.graphUsageMode,
                     &config.numRmaCtx, &config.maxP2pPeers, &config.graphStreamOrdering})
    *field = NCCL_CONFIG_UNDEF_INT;
  return config;
}

}  // namespace nccl_test
