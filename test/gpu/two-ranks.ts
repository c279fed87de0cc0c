import type { SpawnOptions } from "../../src/testing/index.ts";
import type { Facts, TwoRanks } from "./part.ts";

/** A way to have two ranks. */
export interface Way extends TwoRanks {
  readonly name: string;
}

/** NCCL takes several ranks on a GPU since this version. */
const SEVERAL_ON_A_GPU = 23003;
/** What two ranks on a GPU can have of it each. */
const modest = { NCCL_MAX_CTAS: "4", NCCL_NVLS_ENABLE: "0" };

/** The ways that may work here, the best first. */
export function waysForTwo({ devices = [], nccl = 0, emulator }: Facts): Way[] {
  if (devices.length > 1)
    return [{ name: emulator ? "two emulated devices" : "two GPUs", devices: ["cuda:0", "cuda:1"], env: {} }];
  if (devices.length === 0) return [];
  const one = ["cuda:0", "cuda:0"] as const;
  const ways: Way[] = [];
  if (nccl >= SEVERAL_ON_A_GPU) {
    const env = { ...modest, NCCL_MULTI_RANK_GPU_ENABLE: "1" };
    ways.push({ name: "one GPU, NCCL_MULTI_RANK_GPU_ENABLE=1", devices: one, env });
  }
  // Ranks of two hosts, as far as NCCL knows: it compares devices only within a host.
  const apart = { NCCL_HOSTID: "host{rank}", NCCL_P2P_DISABLE: "1", NCCL_SHM_DISABLE: "1", NCCL_IB_DISABLE: "1" };
  const env = { ...modest, ...apart, NCCL_SOCKET_IFNAME: "lo" };
  ways.push({ name: "one GPU, a host name for each rank, over sockets", devices: one, env });
  return ways;
}

/**
 * How `spawnRanks` passes on an environment in which `{rank}` stands for the rank: native libraries read the one that a
 * process was started with.
 */
export function spawnWith(env: Readonly<Record<string, string>>): Pick<SpawnOptions, "env" | "runtime"> {
  const ofRank = Object.entries(env).filter(([, value]) => value.includes("{rank}"));
  if (ofRank.length === 0) return { env };
  const assignments = ofRank.map(([name, value]) => `${name}=${value.replaceAll("{rank}", "$RANK")}`);
  return { env, runtime: ["sh", "-c", `export ${assignments.join(" ")}; exec "$0" "$@"`, process.execPath] };
}
