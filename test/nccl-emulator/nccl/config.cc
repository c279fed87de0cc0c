#include "config.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "report.h"
#include "version.h"

namespace nccl_emulator {
namespace {

constexpr int undefined = NCCL_CONFIG_UNDEF_INT;
constexpr int most_channels = 64;

// How much of ncclConfig_t this release has.
size_t known_bytes() {
  if (release < code(26, 0)) return offsetof(ncclConfig_t, trafficClass);
  if (release < code(27, 0)) return offsetof(ncclConfig_t, commName);
  if (release < code(28, 0)) return offsetof(ncclConfig_t, nChannelsPerNetPeer);
  if (release < code(29, 0)) return offsetof(ncclConfig_t, graphUsageMode);
  if (release < code(30, 0)) return offsetof(ncclConfig_t, maxP2pPeers);
  if (release < code(30, 5)) return offsetof(ncclConfig_t, graphStreamOrdering);
  return sizeof(ncclConfig_t);
}

ncclConfig_t undefined_config() {
  ncclConfig_t config{};
  config.size = sizeof config;
  config.magic = NCCL_API_MAGIC;
  config.version = static_cast<unsigned>(release);
  for (int* field : {&config.blocking, &config.cgaClusterSize, &config.minCTAs, &config.maxCTAs, &config.splitShare,
                     &config.trafficClass, &config.collnetEnable, &config.CTAPolicy, &config.shrinkShare,
                     &config.nvlsCTAs, &config.nChannelsPerNetPeer, &config.nvlinkCentricSched, &config.graphUsageMode,
                     &config.numRmaCtx, &config.maxP2pPeers, &config.graphStreamOrdering})
    *field = undefined;
  return config;
}

// What a program has given last.
struct Last {
  std::mutex mutex;
  ncclConfig_t config = undefined_config();
};
Last& last = *new Last;

// Fields that the header lacked with which the program was compiled.
void forget_unknown(ncclConfig_t* config) {
  auto version = static_cast<int>(config->version);
  auto nothing = undefined_config();
  auto forget = [&](int before, int ncclConfig_t::*field) {
    if (version < before) config->*field = nothing.*field;
  };
  forget(code(14, 0), &ncclConfig_t::blocking);
  for (auto field : {&ncclConfig_t::cgaClusterSize, &ncclConfig_t::minCTAs, &ncclConfig_t::maxCTAs})
    forget(code(17, 0), field);
  if (version < code(17, 0)) config->netName = nullptr;
  forget(code(25, 0), &ncclConfig_t::trafficClass);
  for (auto field :
       {&ncclConfig_t::collnetEnable, &ncclConfig_t::CTAPolicy, &ncclConfig_t::shrinkShare, &ncclConfig_t::nvlsCTAs})
    forget(code(27, 0), field);
  forget(code(28, 0), &ncclConfig_t::nChannelsPerNetPeer);
  forget(code(28, 0), &ncclConfig_t::nvlinkCentricSched);
  forget(code(29, 0), &ncclConfig_t::graphUsageMode);
  forget(code(29, 0), &ncclConfig_t::numRmaCtx);
  forget(code(30, 0), &ncclConfig_t::maxP2pPeers);
  forget(code(30, 5), &ncclConfig_t::graphStreamOrdering);
}

struct Range {
  int ncclConfig_t::*field;
  int least, most;
  const char* name;
};

constexpr Range ranges[] = {
    {&ncclConfig_t::blocking, 0, 1, "blocking"},
    {&ncclConfig_t::cgaClusterSize, 0, INT_MAX, "cgaClusterSize"},
    {&ncclConfig_t::splitShare, 0, 1, "splitShare"},
    {&ncclConfig_t::collnetEnable, 0, 1, "collnetEnable"},
    {&ncclConfig_t::CTAPolicy, 0, 3, "policy"},
    {&ncclConfig_t::shrinkShare, 0, 1, "shrinkShare"},
    {&ncclConfig_t::nvlsCTAs, 1, INT_MAX, "nvlsCTAs"},
    {&ncclConfig_t::nChannelsPerNetPeer, 1, most_channels, "nChannelsPerNetPeer"},
    {&ncclConfig_t::nvlinkCentricSched, 0, 1, "nvlinkCentricSched"},
    {&ncclConfig_t::graphUsageMode, 0, 2, "graphUsageMode"},
    {&ncclConfig_t::numRmaCtx, 0, INT_MAX, "numRmaCtx"},
    {&ncclConfig_t::maxP2pPeers, 1, INT_MAX, "maxP2pPeers"},
    {&ncclConfig_t::graphStreamOrdering, 0, 1, "graphStreamOrdering"},
};

ncclResult_t check(const ncclConfig_t& config) {
  for (auto& range : ranges) {
    int value = config.*range.field;
    if (value != undefined && (value < range.least || value > range.most))
      return refuse(ncclInvalidArgument, "Invalid config %s attribute value %d", range.name, value);
  }
  // Also refused, as by NCCL: the smallest number alone.
  bool min_wrong = config.minCTAs != undefined && config.minCTAs <= 0;
  bool max_wrong = config.maxCTAs != undefined && config.maxCTAs <= 0;
  if (min_wrong || max_wrong || config.minCTAs > config.maxCTAs)
    return refuse(ncclInvalidArgument, "Invalid config min/max channels attribute value %d/%d", config.minCTAs,
                  config.maxCTAs);
  return ncclSuccess;
}

void set_defaults(ncclConfig_t* config) {
  if (config->blocking == undefined) config->blocking = 1;
  if (config->splitShare == undefined) config->splitShare = 0;
  if (config->shrinkShare == undefined) config->shrinkShare = 0;
  const char* blocking = getenv("NCCL_COMM_BLOCKING");
  if (blocking && (!strcmp(blocking, "0") || !strcmp(blocking, "1"))) config->blocking = blocking[0] - '0';
}

}  // namespace

ncclConfig_t default_config() {
  auto config = undefined_config();
  set_defaults(&config);
  return config;
}

int last_config(const char* field) {
  std::lock_guard lock(last.mutex);
  struct Named {
    const char* name;
    int ncclConfig_t::*member;
  };
  for (auto& [name, member] : {Named{"blocking", &ncclConfig_t::blocking},
                               {"cgaClusterSize", &ncclConfig_t::cgaClusterSize},
                               {"minCTAs", &ncclConfig_t::minCTAs},
                               {"maxCTAs", &ncclConfig_t::maxCTAs},
                               {"splitShare", &ncclConfig_t::splitShare},
                               {"trafficClass", &ncclConfig_t::trafficClass},
                               {"collnetEnable", &ncclConfig_t::collnetEnable},
                               {"CTAPolicy", &ncclConfig_t::CTAPolicy},
                               {"shrinkShare", &ncclConfig_t::shrinkShare},
                               {"nvlsCTAs", &ncclConfig_t::nvlsCTAs},
                               {"nChannelsPerNetPeer", &ncclConfig_t::nChannelsPerNetPeer},
                               {"nvlinkCentricSched", &ncclConfig_t::nvlinkCentricSched},
                               {"graphUsageMode", &ncclConfig_t::graphUsageMode},
                               {"numRmaCtx", &ncclConfig_t::numRmaCtx},
                               {"maxP2pPeers", &ncclConfig_t::maxP2pPeers},
                               {"graphStreamOrdering", &ncclConfig_t::graphStreamOrdering}})
    if (!strcmp(name, field)) return last.config.*member;
  return undefined;
}

ncclResult_t read_config(const ncclConfig_t* given, ncclConfig_t* config) {
  auto read = undefined_config();
  read.magic = 0;
  if (given)
    memcpy(&read, given, std::min(given->size, known_bytes()));
  else
    read.magic = NCCL_API_MAGIC;
  if (read.magic != NCCL_API_MAGIC)
    return misuse(ncclInvalidArgument, "ncclConfig_t argument not initialized via NCCL_CONFIG_INITIALIZER");
  forget_unknown(&read);
  {
    std::lock_guard lock(last.mutex);
    last.config = read;
  }
  if (auto result = check(read); result != ncclSuccess) return result;
  set_defaults(&read);
  *config = read;
  return ncclSuccess;
}

}  // namespace nccl_emulator
