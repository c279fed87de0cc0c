// The library of each release: its symbols, its number, its configuration.
#include <doctest/doctest.h>

#include <dlfcn.h>

#include <map>

#include "nccl_ranks.h"

using namespace nccl_test;

namespace {

const std::map<std::string, int> releases{{"2.18.5", 21805}, {"2.22.3", 22203}, {"2.26.2", 22602}, {"2.27.3", 22703},
                                          {"2.28.9", 22809}, {"2.30.7", 23007}, {"2.32.6", 23206}};

// The first release of each function that is not in all.
const std::map<std::string, int> newer{{"ncclMemAlloc", 21900},
                                       {"ncclMemFree", 21900},
                                       {"ncclCommRegister", 21900},
                                       {"ncclCommDeregister", 21900},
                                       {"ncclGroupSimulateEnd", 22200},
                                       {"ncclCommInitRankScalable", 22300},
                                       {"ncclCommShrink", 22700},
                                       {"ncclCommWindowRegister", 22700},
                                       {"ncclCommWindowDeregister", 22700},
                                       {"ncclAlltoAll", 22803},
                                       {"ncclGather", 22803},
                                       {"ncclScatter", 22803},
                                       {"ncclCommRevoke", 22807},
                                       {"ncclCommGrow", 22902},
                                       {"ncclCommGetUniqueId", 22902},
                                       {"ncclWinGetUserPtr", 22902},
                                       {"ncclCommSuspend", 22907},
                                       {"ncclCommResume", 22907},
                                       {"ncclCommMemStats", 22907}};

const char* const always[] = {"ncclGetVersion",
                              "ncclGetUniqueId",
                              "ncclCommInitRank",
                              "ncclCommInitRankConfig",
                              "ncclCommFinalize",
                              "ncclCommDestroy",
                              "ncclCommAbort",
                              "ncclCommSplit",
                              "ncclGetErrorString",
                              "ncclGetLastError",
                              "ncclCommCount",
                              "ncclCommCuDevice",
                              "ncclCommUserRank",
                              "ncclCommGetAsyncError",
                              "ncclAllReduce",
                              "ncclReduce",
                              "ncclBroadcast",
                              "ncclBcast",
                              "ncclAllGather",
                              "ncclReduceScatter",
                              "ncclSend",
                              "ncclRecv",
                              "ncclGroupStart",
                              "ncclGroupEnd",
                              "ncclRedOpDestroy",
                              "ncclCommInitAll",
                              "ncclRedOpCreatePreMulSum"};

class Library {
 public:
  explicit Library(const std::string& release)
      : handle_(dlopen((std::string(NCCL_EMULATOR_FOLDER) + "/" + release + "/libnccl.so.2").c_str(),
                       RTLD_NOW | RTLD_LOCAL)) {
    require(handle_ != nullptr, dlerror() ? "the library is not found" : "");
  }
  void* find(const char* name) const { return dlsym(handle_, name); }
  template <class Function>
  Function* function(const char* name, Function*) const {
    return reinterpret_cast<Function*>(find(name));
  }

 private:
  void* handle_;
};

ncclResult_t init(const Library& library, ncclConfig_t* config) {
  ncclUniqueId id;
  ok(library.function("ncclGetUniqueId", &ncclGetUniqueId)(&id), "id");
  ncclComm_t comm = nullptr;
  auto result = library.function("ncclCommInitRankConfig", &ncclCommInitRankConfig)(&comm, 1, id, 0, config);
  if (result == ncclSuccess) ok(library.function("ncclCommDestroy", &ncclCommDestroy)(comm), "destroy");
  return result;
}

void for_each_release(const std::function<void(const Library&, int)>& body) {
  for (auto& [text, number] : releases) {
    CAPTURE(text);
    auto failures = run_ranks(1, [&, &text = text, &number = number](int) {
      Rank rank(0);
      Library library(text);
      body(library, number);
    });
    CHECK(failures == "");
  }
}

}  // namespace

TEST_CASE("symbols and number of each release") {
  for_each_release([](const Library& library, int number) {
    int version = 0;
    ok(library.function("ncclGetVersion", &ncclGetVersion)(&version), "version");
    require(version == number, "version " + std::to_string(version));
    for (auto* name : always) require(library.find(name) != nullptr, std::string(name) + " is missing");
    for (auto& [name, since] : newer)
      require((library.find(name.c_str()) != nullptr) == (number >= since), name + " of " + std::to_string(since));
    auto name = std::string(library.function("ncclemu_name", &ncclemu_name)());
    require(name.find("NCCL emulator 2.") == 0, name);
    auto timeout = std::string(library.function("ncclGetErrorString", &ncclGetErrorString)(ncclTimeout));
    require(timeout == (number >= 23003 ? "timeout" : "unknown result code"), timeout);
  });
}

TEST_CASE("configurations") {
  for_each_release([](const Library& library, int number) {
    auto config = config_initializer();
    config.version = static_cast<unsigned>(number);
    ok(init(library, &config), "defaults");
    ok(init(library, nullptr), "none");

    // Larger than any that is known.
    struct Newer {
      ncclConfig_t known;
      int unknown[8];
    } larger{config, {1, 2, 3, 4, 5, 6, 7, 8}};
    larger.known.size = sizeof larger;
    ok(init(library, &larger.known), "of a newer header");

    auto older = config_initializer();
    older.size = offsetof(ncclConfig_t, trafficClass);
    older.version = 21805;
    ok(init(library, &older), "of an older header");

    auto broken = config;
    broken.magic = 1;
    require_result(init(library, &broken), ncclInvalidArgument, "magic");
    broken = config;
    broken.size = 8;
    require_result(init(library, &broken), ncclInvalidArgument, "size");

    auto refused = [&](int ncclConfig_t::*field, int value, int since) {
      auto changed = config;
      changed.*field = value;
      require_result(init(library, &changed), number >= since ? ncclInvalidArgument : ncclSuccess,
                     "a field of " + std::to_string(since));
    };
    refused(&ncclConfig_t::blocking, 2, 0);
    refused(&ncclConfig_t::cgaClusterSize, -1, 0);
    refused(&ncclConfig_t::minCTAs, 0, 0);
    refused(&ncclConfig_t::minCTAs, 4, 0);  // Without a maximum.
    refused(&ncclConfig_t::splitShare, -1, 0);
    refused(&ncclConfig_t::collnetEnable, 3, 22700);
    refused(&ncclConfig_t::nvlsCTAs, 0, 22700);
    refused(&ncclConfig_t::nvlinkCentricSched, 2, 22800);
    refused(&ncclConfig_t::graphUsageMode, 3, 22900);
    refused(&ncclConfig_t::maxP2pPeers, 0, 23000);
    refused(&ncclConfig_t::graphStreamOrdering, 2, 23005);

    auto both = config;
    both.minCTAs = 1;
    both.maxCTAs = 4;
    ok(init(library, &both), "minimum and maximum");
  });
}

TEST_CASE("8-bit floating point came with 2.24, and two ranks on a device with 2.30.3") {
  for_each_release([](const Library& library, int number) {
    ncclUniqueId id;
    ok(library.function("ncclGetUniqueId", &ncclGetUniqueId)(&id), "id");
    ncclComm_t comm = nullptr;
    ok(library.function("ncclCommInitRank", &ncclCommInitRank)(&comm, 1, id, 0), "init");
    auto result =
        library.function("ncclAllReduce", &ncclAllReduce)(nullptr, nullptr, 0, ncclFloat8e4m3, ncclSum, comm, nullptr);
    require_result(result, number >= 22400 ? ncclSuccess : ncclInvalidArgument, "dtype");
  });
}

TEST_CASE("ranks of different releases") {
  ncclUniqueId id;
  REQUIRE(ncclGetUniqueId(&id) == ncclSuccess);
  auto failures = run_ranks(2, [&](int r) {
    Rank rank(r);
    Library library(r == 0 ? "2.30.7" : "2.27.3");
    ncclComm_t comm = nullptr;
    require_result(library.function("ncclCommInitRank", &ncclCommInitRank)(&comm, 2, id, r), ncclInvalidUsage, "init");
    auto text = std::string(library.function("ncclGetLastError", &ncclGetLastError)(nullptr));
    require(text.find("Mismatched NCCL version detected") == 0, text);
  });
  CHECK(failures == "");
}
