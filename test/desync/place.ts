import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type SpawnOptions, spawnRanks, type WorkerOutcome, workerRanks } from "bun-c10d/testing";
import { whyNoGloo } from "../../src/backends/gloo/fixtures/availability.ts";
import { launchWith, whyNoMpi } from "../../src/backends/mpi/fixtures/availability.ts";
import type { MpiImplementation } from "../../src/backends/mpi/options.ts";
import { spawn as uccSpawn, whyNoUcc } from "../../src/backends/ucc/fixtures/availability.ts";
import { SplitJob } from "../multi-host/split-job.ts";
import { TwoHosts } from "../multi-host/two-hosts.ts";
import type { CaseName } from "./ways.ts";

type Run = (worldSize: number, file: URL, options: RunOptions) => Promise<readonly WorkerOutcome[]>;

interface RunOptions {
  readonly args: unknown;
  readonly timeout: number;
}

/** A backend, and where its ranks run. */
export interface Place {
  readonly name: string;
  readonly backend: string;
  /** Cases that it cannot run, since the backend has no such op. */
  readonly lacks: readonly CaseName[];
  /** Whether a rank waits only for ranks that it needs data from, and then learns of a difference from its next op. */
  readonly waitsForNeeded?: boolean;
  /** Why no ranks can run here; undefined if they can. */
  whyNot(): Promise<string | undefined>;
  readonly run: Run;
}

const monitored: readonly CaseName[] = ["barrier, monitored barrier", "all-reduce, monitored barrier"];

const inProcesses =
  (place: SpawnOptions): Run =>
  (worldSize, file, options) =>
    spawnRanks(worldSize, file, { ...options, ...place });

/** The last rank has its own host. */
const onTwoHosts =
  (runtime: readonly string[], env: SpawnOptions["env"] = {}): Run =>
  async (worldSize, file, options) => {
    await using hosts = await TwoHosts.make();
    await using job = await SplitJob.make(hosts, worldSize - 1, { runtime, limitMs: options.timeout });
    return await spawnRanks(worldSize, file, { ...options, ...job.options, env: { ...job.options.env, ...env } });
  };

/** The same, where one launcher starts the ranks of both hosts. */
const launchedOnTwoHosts =
  (implementation: MpiImplementation): Run =>
  async (worldSize, file, options) => {
    await using hosts = await TwoHosts.make();
    await using job = await SplitJob.make(hosts, worldSize - 1, { limitMs: options.timeout });
    const folder = mkdtempSync(join(tmpdir(), "c10d-agent-"));
    try {
      const { launcher = [], env } = launchWith(implementation);
      const flags = placement[implementation](slotsOf(worldSize), hosts.writeAgent(folder));
      const where = { launcher: [...hosts.on(0), ...launcher, ...flags], env: { ...job.options.env, ...env } };
      return await spawnRanks(worldSize, file, { ...options, ...where });
    } finally {
      rmSync(folder, { recursive: true });
    }
  };

const placement = {
  openmpi: (slots: string, agent: string) => [
    ...["--host", slots, "--mca", "plm_rsh_agent", agent],
    ...["--mca", "btl_tcp_if_include", "veth", "--mca", "oob_tcp_if_include", "veth"],
  ],
  mpich: (slots: string, agent: string) => [
    "-hosts",
    slots,
    "-launcher",
    "rsh",
    "-launcher-exec",
    agent,
    "-iface",
    "veth",
  ],
} satisfies Readonly<Record<MpiImplementation, unknown>>;

function slotsOf(worldSize: number): string {
  const [near, far] = TwoHosts.addresses;
  return `${near}:${worldSize - 1},${far}:1`;
}

async function whyNoHosts(): Promise<string | undefined> {
  const impossible = await TwoHosts.impossible();
  if (impossible === undefined || process.env.C10D_REQUIRE_NETNS === "1") return undefined;
  return `no network namespaces: ${impossible}`;
}

export const places: readonly Place[] = [
  { name: "gloo", backend: "gloo", lacks: [], whyNot: async () => whyNoGloo, run: inProcesses({}) },
  {
    name: "gloo on two hosts",
    backend: "gloo",
    lacks: [],
    whyNot: async () => whyNoGloo ?? (await whyNoHosts()),
    run: onTwoHosts([process.execPath]),
  },
  ...(["openmpi", "mpich"] as const).flatMap((implementation) => [
    {
      name: implementation,
      backend: "mpi",
      lacks: [],
      whyNot: async () => whyNoMpi(implementation),
      run: inProcesses(launchWith(implementation)),
    },
    {
      name: `${implementation} on two hosts`,
      backend: "mpi",
      lacks: [],
      whyNot: async () => whyNoMpi(implementation) ?? (await whyNoHosts()),
      run: launchedOnTwoHosts(implementation),
    },
  ]),
  {
    name: "ucc",
    backend: "ucc",
    lacks: monitored,
    waitsForNeeded: true,
    whyNot: async () => whyNoUcc,
    run: inProcesses(uccSpawn),
  },
  {
    name: "ucc on two hosts",
    backend: "ucc",
    lacks: monitored,
    whyNot: async () => whyNoUcc ?? (await whyNoHosts()),
    // Otherwise UCX would find the memory of the other host's processes.
    run: onTwoHosts(uccSpawn.runtime ?? [process.execPath], { UCX_TLS: "tcp,self", UCX_NET_DEVICES: "veth" }),
  },
  { name: "fake", backend: "fake", lacks: [], whyNot: async () => undefined, run: workerRanks },
];
