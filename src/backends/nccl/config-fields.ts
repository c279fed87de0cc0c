import { InvalidArgumentError } from "../../errors/index.ts";
import { type NcclVersion, versionText } from "./nccl-version.ts";
import type { NcclConfig } from "./options.ts";

/** A field of {@link NcclConfig}. */
interface ConfigField {
  /** Name of the shim's option. */
  readonly key: string;
  readonly kind: "flag" | "integer" | "text";
  /** First version of NCCL that has it, as its own code compares: a release may have a higher number. */
  readonly since: NcclVersion;
}

const field = (key: string, kind: ConfigField["kind"], since: NcclVersion): ConfigField => ({ key, kind, since });

/** The fields of `ncclConfig_t` in their order. */
export const configFields: Readonly<Record<keyof NcclConfig, ConfigField>> = {
  blocking: field("blocking", "flag", 21800),
  cgaClusterSize: field("cga-cluster-size", "integer", 21800),
  minCtas: field("min-ctas", "integer", 21800),
  maxCtas: field("max-ctas", "integer", 21800),
  netName: field("net-name", "text", 21800),
  splitShare: field("split-share", "flag", 21800),
  trafficClass: field("traffic-class", "integer", 22600),
  commName: field("comm-name", "text", 22700),
  collnetEnable: field("collnet-enable", "flag", 22700),
  ctaPolicy: field("cta-policy", "integer", 22700),
  shrinkShare: field("shrink-share", "flag", 22700),
  nvlsCtas: field("nvls-ctas", "integer", 22700),
  nChannelsPerNetPeer: field("n-channels-per-net-peer", "integer", 22800),
  nvlinkCentricSched: field("nvlink-centric-sched", "flag", 22800),
  graphUsageMode: field("graph-usage-mode", "integer", 22900),
  numRmaCtx: field("num-rma-ctx", "integer", 22900),
  maxP2pPeers: field("max-p2p-peers", "integer", 23000),
  graphStreamOrdering: field("graph-stream-ordering", "integer", 23005),
};

/**
 * The configuration as options of the shim.
 * @throws InvalidArgumentError for a field that the library does not have.
 */
export function configSettings(config: NcclConfig, library: NcclVersion): Record<string, string> {
  const settings: Record<string, string> = {};
  for (const [name, { key, since }] of Object.entries(configFields)) {
    const value = config[name as keyof NcclConfig];
    if (value === undefined) continue;
    if (library < since) {
      throw new InvalidArgumentError(
        `nccl: options.config.${name} needs NCCL ${versionText(since)} or later, this is ${versionText(library)}: leave it out, or update NCCL`,
        { argument: `config.${name}`, backend: "nccl" },
      );
    }
    settings[key] = typeof value === "boolean" ? (value ? "1" : "0") : String(value);
  }
  return settings;
}
