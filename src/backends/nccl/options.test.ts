import { describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../../errors/index.ts";
import { checkOptions } from "../../registry/index.ts";
import { configFields } from "./config-fields.ts";
import { versionText } from "./nccl-version.ts";
import type { NcclOptions } from "./options.ts";
import plugin from "./plugin.ts";
import { settingsOf } from "./settings.ts";

const newest = 23007;
const settings = (options: NcclOptions, version = newest, environment: Record<string, string> = {}) =>
  settingsOf({ options, groupName: "3" }, version, environment);

describe("the options of nccl", () => {
  test("are passed to the shim by its names", () => {
    const config: NcclOptions["config"] = {
      blocking: false,
      cgaClusterSize: 2,
      minCtas: 1,
      maxCtas: 8,
      netName: "Socket",
      splitShare: true,
      trafficClass: 5,
      commName: "mine",
      collnetEnable: true,
      ctaPolicy: 1,
      shrinkShare: false,
      nvlsCtas: 4,
      nChannelsPerNetPeer: 2,
      nvlinkCentricSched: true,
      graphUsageMode: 1,
      numRmaCtx: 3,
      maxP2pPeers: 7,
      graphStreamOrdering: 0,
    };
    expect(Object.keys(config)).toEqual(Object.keys(configFields));
    expect(settings({ config, isHighPriorityStream: true })).toEqual({
      blocking: "0",
      "cga-cluster-size": "2",
      "min-ctas": "1",
      "max-ctas": "8",
      "net-name": "Socket",
      "split-share": "1",
      "traffic-class": "5",
      "comm-name": "mine",
      "collnet-enable": "1",
      "cta-policy": "1",
      "shrink-share": "0",
      "nvls-ctas": "4",
      "n-channels-per-net-peer": "2",
      "nvlink-centric-sched": "1",
      "graph-usage-mode": "1",
      "num-rma-ctx": "3",
      "max-p2p-peers": "7",
      "graph-stream-ordering": "0",
      "high-priority": "1",
    });
  });

  test("a communicator has the name of its group, where NCCL has names", () => {
    expect(settings({})).toEqual({ "comm-name": "3" });
    expect(settings({}, 22600)).toEqual({});
  });

  test.each(Object.entries(configFields))(
    "%s is refused by a library that does not have it",
    (name, { since, kind }) => {
      const config = { [name]: kind === "flag" ? true : kind === "text" ? "text" : 1 };
      expect(() => settings({ config }, since)).not.toThrow();
      const text = `options.config.${name} needs NCCL ${versionText(since)} or later, this is ${versionText(since - 1)}`;
      expect(() => settings({ config }, since - 1)).toThrow(text);
      expect(() => settings({ config }, since - 1)).toThrow(InvalidArgumentError);
    },
  );

  test("the shim knows the same fields, since the same versions", async () => {
    const source = await Bun.file(new URL("native/communicator_config.cc", import.meta.url)).text();
    const rows = source.matchAll(/\{"([\w-]+)", &NcclConfig::\w+, (?:kBase|nccl_version\(2, (\d+), (\d+)\))\}/g);
    const known = [...rows].map(
      ([, key, minor = "18", patch = "0"]) => [key, 20000 + Number(minor) * 100 + Number(patch)] as const,
    );
    const declared = Object.values(configFields).map(({ key, since }) => [key, since] as const);
    expect(Object.fromEntries(known)).toEqual(Object.fromEntries(declared));
  });

  test("variables have effect where no option is given", () => {
    const blocking = { TORCH_NCCL_USE_COMM_NONBLOCKING: "0" };
    expect(settings({}, 22600, blocking)).toEqual({ blocking: "1" });
    expect(settings({ config: { blocking: false } }, 22600, blocking)).toEqual({ blocking: "0" });
    expect(settings({}, 22600, { TORCH_NCCL_HIGH_PRIORITY: "1" })).toEqual({ "high-priority": "1" });
    expect(settings({ isHighPriorityStream: false }, 22600, { TORCH_NCCL_HIGH_PRIORITY: "1" })).toEqual({});
    expect(settings({}, 22600, { TORCH_NCCL_NONBLOCKING_TIMEOUT: "7" })).toEqual({ "nonblocking-timeout": "7000" });
    const longest = { TORCH_NCCL_NONBLOCKING_TIMEOUT: "2147484" };
    expect(settings({}, 22600, longest)).toEqual({ "nonblocking-timeout": "2147483647" });
    expect(() => settings({}, 22600, { TORCH_NCCL_NONBLOCKING_TIMEOUT: "soon" })).toThrow(
      "TORCH_NCCL_NONBLOCKING_TIMEOUT",
    );
  });

  test.each([
    [{ config: { minCtas: 1.5 } }, "config.minCtas"],
    [{ config: { minCtas: -1 } }, "config.minCtas"],
    [{ config: { blocking: 1 } }, "config.blocking"],
    [{ config: { netName: "a\0b" } }, "config.netName"],
    [{ config: { maxCTAs: 1 } }, "unknown option config.maxCTAs (known are blocking, "],
    [{ config: { maxCTAs: 1 } }, 'did you mean "maxCtas"?'],
    [{ config: { min_ctas: 1 } }, 'did you mean "minCtas"?'],
    [{ isHighPriorityStream: "yes" }, "isHighPriorityStream"],
    [{ library: "" }, "library"],
    [{ nbr: 1 }, "nbr"],
  ])("invalid ones are refused with their path: %j", async (options, path) => {
    await expect(checkOptions(plugin, options)).rejects.toThrow(path);
  });

  test("valid ones are accepted", async () => {
    const options = { config: { minCtas: 2, netName: "IB" }, eager: false, library: "/opt/libnccl.so.2" };
    expect(await checkOptions(plugin, options)).toEqual(options);
    expect(await checkOptions(plugin, {})).toEqual({});
  });
});

test("versions are shown as NCCL's releases are named", () => {
  expect([21800, 22304, 23007, 2804, 20912].map(versionText)).toEqual([
    "2.18.0",
    "2.23.4",
    "2.30.7",
    "2.8.4",
    "2.9.12",
  ]);
});
