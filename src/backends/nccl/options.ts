/**
 * Fields of `ncclConfig_t`. NCCL's own default, which its environment variables may change, is used for one that is not
 * given; one that the library does not have yet is an error. c10d: `ProcessGroupNCCL.NCCLConfig`.
 */
export interface NcclConfig {
  /**
   * Whether NCCL's calls block. `false` by default, since only a communicator whose calls return at once can be aborted
   * safely. NCCL 2.18.
   */
  readonly blocking?: boolean;
  /** Size of the clusters of thread blocks, 0 to 8. NCCL 2.18. */
  readonly cgaClusterSize?: number;
  /** Minimum number of thread blocks of an op. NCCL 2.18. */
  readonly minCtas?: number;
  /** Maximum number of thread blocks of an op. NCCL 2.18. */
  readonly maxCtas?: number;
  /** Network module, such as `"IB"` or `"Socket"`. NCCL 2.18. */
  readonly netName?: string;
  /** Whether communicators that are split from this one share its resources. NCCL 2.18. */
  readonly splitShare?: boolean;
  /** Traffic class of its network connections. NCCL 2.26. */
  readonly trafficClass?: number;
  /** Name of the communicator, in NCCL's logs and for profilers. That of the group by default. NCCL 2.27. */
  readonly commName?: string;
  /** Whether in-network reductions may be used. NCCL 2.27. */
  readonly collnetEnable?: boolean;
  /** What is preferred: NCCL's default 0, few thread blocks 1, none 2; bits may be combined. NCCL 2.27. */
  readonly ctaPolicy?: number;
  /** Whether communicators that are shrunk from this one share its resources. NCCL 2.27. */
  readonly shrinkShare?: boolean;
  /** Number of thread blocks of ops over NVLink SHARP. NCCL 2.27. */
  readonly nvlsCtas?: number;
  /** Channels per peer across the network. NCCL 2.28. */
  readonly nChannelsPerNetPeer?: number;
  /** Whether ops are placed for NVLink. NCCL 2.28. */
  readonly nvlinkCentricSched?: boolean;
  /** How the communicator is used in CUDA graphs: 0 not, 1 in one graph, 2 in several or mixed. NCCL 2.29. */
  readonly graphUsageMode?: number;
  /** Number of contexts for one-sided ops. NCCL 2.29. */
  readonly numRmaCtx?: number;
  /** Maximum number of peers of one-sided and point-to-point ops. NCCL 2.30. */
  readonly maxP2pPeers?: number;
  /** How ops in CUDA graphs are ordered with those in streams. NCCL 2.30.7. */
  readonly graphStreamOrdering?: number;
}

/**
 * Options of the NCCL backend: `initProcessGroup({ backend: "nccl", options: { … } })`. c10d:
 * `ProcessGroupNCCL.Options`.
 */
export interface NcclOptions {
  /** Fields of NCCL's configuration. */
  readonly config?: NcclConfig;
  /** Whether ops run in a stream of high priority. Default: `TORCH_NCCL_HIGH_PRIORITY`, else false. */
  readonly isHighPriorityStream?: boolean;
  /**
   * Path of `libnccl.so.2`. Default: `C10D_NCCL_LIBRARY`, else that of the system or of Python's `nvidia-nccl` package.
   * A process uses one.
   */
  readonly library?: string;
  /**
   * Whether the communicator is made with the group, rather than by the first op. Default: whether the group is bound to
   * a device by `deviceId`, without which it cannot be `true`.
   */
  readonly eager?: boolean;
}

declare module "../../registry/backend-options-by-name.ts" {
  interface BackendOptionsByName {
    readonly nccl: NcclOptions;
  }
}
