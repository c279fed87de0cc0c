#include "communicator_config.h"

#include <charconv>

#include "library.h"

namespace c10d::nccl_shim {

namespace {

constexpr int kBase = kOldestNccl;

struct NumberField {
  const char* key;
  int NcclConfig::*member;
  int since;
};

constexpr NumberField kNumbers[] = {
    {"blocking", &NcclConfig::blocking, kBase},
    {"cga-cluster-size", &NcclConfig::cga_cluster_size, kBase},
    {"min-ctas", &NcclConfig::min_ctas, kBase},
    {"max-ctas", &NcclConfig::max_ctas, kBase},
    {"split-share", &NcclConfig::split_share, kBase},
    {"traffic-class", &NcclConfig::traffic_class, nccl_version(2, 26, 0)},
    {"collnet-enable", &NcclConfig::collnet_enable, nccl_version(2, 27, 0)},
    {"cta-policy", &NcclConfig::cta_policy, nccl_version(2, 27, 0)},
    {"shrink-share", &NcclConfig::shrink_share, nccl_version(2, 27, 0)},
    {"nvls-ctas", &NcclConfig::nvls_ctas, nccl_version(2, 27, 0)},
    {"n-channels-per-net-peer", &NcclConfig::n_channels_per_net_peer, nccl_version(2, 28, 0)},
    {"nvlink-centric-sched", &NcclConfig::nvlink_centric_sched, nccl_version(2, 28, 0)},
    {"graph-usage-mode", &NcclConfig::graph_usage_mode, nccl_version(2, 29, 0)},
    {"num-rma-ctx", &NcclConfig::num_rma_ctx, nccl_version(2, 29, 0)},
    {"max-p2p-peers", &NcclConfig::max_p2p_peers, nccl_version(2, 30, 0)},
    {"graph-stream-ordering", &NcclConfig::graph_stream_ordering, nccl_version(2, 30, 5)},
};

struct TextField {
  const char* key;
  const char* NcclConfig::*member;
  int since;
};

constexpr TextField kNetName{"net-name", &NcclConfig::net_name, kBase};
constexpr TextField kCommName{"comm-name", &NcclConfig::comm_name, nccl_version(2, 27, 0)};

void require_version(const char* key, int since, int version) {
  if (version >= since) return;
  throw Failure(C10D_ERR_INVALID, std::string("option ") + key + " needs NCCL " + version_text(since) +
                                      " or newer: libnccl.so.2 is " + version_text(version));
}

/// Bytes of ncclConfig_t in this version of the library.
size_t config_size(int version) {
  if (version >= nccl_version(2, 30, 5)) return sizeof(NcclConfig);
  if (version >= nccl_version(2, 30, 0)) return offsetof(NcclConfig, graph_stream_ordering);
  if (version >= nccl_version(2, 29, 0)) return offsetof(NcclConfig, max_p2p_peers);
  if (version >= nccl_version(2, 28, 0)) return offsetof(NcclConfig, graph_usage_mode);
  if (version >= nccl_version(2, 27, 0)) return offsetof(NcclConfig, n_channels_per_net_peer);
  return offsetof(NcclConfig, comm_name);
}

/// As the compiler of that library lays it out: its struct ends at a multiple of 8.
size_t padded(size_t bytes) { return (bytes + 7) / 8 * 8; }

}  // namespace

int integer_option(const Options& options, const std::string& key, int fallback) {
  const std::string text = options.get(key);
  if (text.empty()) return fallback;
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size()) return number;
  throw Failure(C10D_ERR_INVALID, "option " + key + " must be a whole number, got \"" + text + "\"");
}

CommunicatorConfig::CommunicatorConfig(const Options& options, int version, const Mutation& mutation)
    : net_name_(options.get(kNetName.key)), comm_name_(options.get(kCommName.key)) {
  config_.size = mutation.is("config-size") ? offsetof(NcclConfig, blocking) : padded(config_size(version));
  config_.magic = kNcclMagic;
  config_.version = static_cast<unsigned>(version < kNewestConfig ? version : kNewestConfig);
  for (const auto& field : kNumbers) {
    config_.*field.member = kNcclUndefined;
    const std::string text = options.get(field.key);
    if (text.empty()) continue;
    require_version(field.key, field.since, version);
    const bool swaps = mutation.is("min-for-max") && field.member == &NcclConfig::max_ctas;
    config_.*(swaps ? &NcclConfig::min_ctas : field.member) = integer_option(options, field.key, kNcclUndefined);
  }
  if (config_.blocking == kNcclUndefined) config_.blocking = 0;
  if (!net_name_.empty()) config_.net_name = net_name_.c_str();
  if (comm_name_.empty()) return;
  require_version(kCommName.key, kCommName.since, version);
  config_.comm_name = comm_name_.c_str();
}

}  // namespace c10d::nccl_shim
