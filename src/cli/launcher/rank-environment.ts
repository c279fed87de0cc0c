import type { Environment } from "../../environment/index.ts";
import { InvalidArgumentError } from "../../errors/index.ts";

/** What the ranks of one attempt on one node share. */
export interface JobPlace {
  /** Number of this node, from 0. */
  readonly node: number;
  readonly nnodes: number;
  readonly ranksPerNode: number;
  readonly masterAddr: string;
  readonly masterPort: number;
  readonly runId: string;
  /** How often the job has been restarted. */
  readonly attempt: number;
  readonly maxRestarts: number;
  /** Secret of the store; null for PyTorch's open protocol. */
  readonly secret: string | null;
  /** Folder for the status records of the ranks, if there is one. */
  readonly statusFolder?: string | undefined;
}

/** The global rank of a local rank. */
export function globalRank(localRank: number, place: Pick<JobPlace, "node" | "ranksPerNode">): number {
  return place.node * place.ranksPerNode + localRank;
}

/** Variables that describe a rank's place in the job, with torchrun's names. */
export function rankEnvironment(localRank: number, place: JobPlace): Record<string, string> {
  return {
    RANK: String(globalRank(localRank, place)),
    WORLD_SIZE: String(place.nnodes * place.ranksPerNode),
    LOCAL_RANK: String(localRank),
    LOCAL_WORLD_SIZE: String(place.ranksPerNode),
    GROUP_RANK: String(place.node),
    GROUP_WORLD_SIZE: String(place.nnodes),
    ROLE_NAME: "default",
    ROLE_RANK: String(globalRank(localRank, place)),
    ROLE_WORLD_SIZE: String(place.nnodes * place.ranksPerNode),
    MASTER_ADDR: place.masterAddr,
    MASTER_PORT: String(place.masterPort),
    TORCHELASTIC_USE_AGENT_STORE: "True",
    TORCHELASTIC_RUN_ID: place.runId,
    TORCHELASTIC_RESTART_COUNT: String(place.attempt),
    TORCHELASTIC_MAX_RESTARTS: String(place.maxRestarts),
    C10D_STORE_SECRET: place.secret ?? "",
    C10D_STATUS_DIR: place.statusFolder ?? "",
  };
}

const anyPlace: JobPlace = {
  node: 0,
  nnodes: 1,
  ranksPerNode: 1,
  masterAddr: "",
  masterPort: 0,
  runId: "",
  attempt: 0,
  maxRestarts: 0,
  secret: null,
};
const reserved = new Set(Object.keys(rankEnvironment(0, anyPlace)));

/** The `--env K=V` flags as a record. @throws InvalidArgumentError for other text and for the launcher's variables. */
export function parseEnvFlags(flags: readonly string[]): Record<string, string> {
  const pairs = flags.map((flag): [string, string] => {
    const match = /^([A-Za-z_][A-Za-z0-9_]*)=([\s\S]*)$/.exec(flag);
    const [name, value] = [match?.[1], match?.[2]];
    if (name === undefined || value === undefined) {
      throw new InvalidArgumentError(`--env must be NAME=value, got ${JSON.stringify(flag)}`, { argument: "env" });
    }
    if (reserved.has(name)) {
      throw new InvalidArgumentError(`--env cannot set ${name}: the launcher sets it for each rank`, {
        argument: "env",
      });
    }
    return [name, value];
  });
  return Object.fromEntries(pairs);
}

/**
 * Variables that every rank gets unless the user sets them: one thread each, the colours of the terminal, and where to
 * write its flight recorder.
 */
export function defaultEnvironment(
  env: Environment,
  colourDepth: number,
  traces: string | undefined,
): Record<string, string> {
  const defaults: Record<string, string> = {};
  if (env.OMP_NUM_THREADS === undefined) defaults.OMP_NUM_THREADS = "1";
  const level = colourDepth >= 24 ? 3 : colourDepth >= 8 ? 2 : colourDepth >= 4 ? 1 : 0;
  if (level > 0 && env.NO_COLOR === undefined && env.FORCE_COLOR === undefined) defaults.FORCE_COLOR = String(level);
  if (traces !== undefined && env.C10D_TRACE_DIR === undefined) defaults.C10D_TRACE_DIR = traces;
  return defaults;
}
