import { InvalidArgumentError } from "../../errors/index.ts";

export interface JobAddress {
  readonly worldSize: number;
  readonly masterAddr: string;
  readonly masterPort: number;
  readonly runId: string;
  /** Secret of the store; null for PyTorch's open protocol. */
  readonly secret: string | null;
}

/** Variables that tell a rank its place in the job, with torchrun's names, for one node. */
export function rankEnvironment(rank: number, job: JobAddress): Record<string, string> {
  return {
    RANK: String(rank),
    WORLD_SIZE: String(job.worldSize),
    LOCAL_RANK: String(rank),
    LOCAL_WORLD_SIZE: String(job.worldSize),
    GROUP_RANK: "0",
    GROUP_WORLD_SIZE: "1",
    MASTER_ADDR: job.masterAddr,
    MASTER_PORT: String(job.masterPort),
    TORCHELASTIC_USE_AGENT_STORE: "True",
    TORCHELASTIC_RUN_ID: job.runId,
    TORCHELASTIC_RESTART_COUNT: "0",
    C10D_STORE_SECRET: job.secret ?? "",
  };
}

const anyJob: JobAddress = { worldSize: 1, masterAddr: "", masterPort: 0, runId: "", secret: null };
const reserved = new Set(Object.keys(rankEnvironment(0, anyJob)));

/** The `--env K=V` flags as a record. @throws InvalidArgumentError for other text and for what the launcher sets. */
export function parseEnvFlags(flags: readonly string[]): Record<string, string> {
  const pairs = flags.map((flag): [string, string] => {
    const match = /^([A-Za-z_][A-Za-z0-9_]*)=([\s\S]*)$/.exec(flag);
    const [name, value] = [match?.[1], match?.[2]];
    if (name === undefined || value === undefined) {
      throw new InvalidArgumentError(`--env wants NAME=value, got ${JSON.stringify(flag)}`, { argument: "env" });
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

/** Variables that every rank gets unless the user has set them: one thread each, and the colours of the terminal. */
export function defaultEnvironment(env: NodeJS.ProcessEnv, colourDepth: number): Record<string, string> {
  const defaults: Record<string, string> = {};
  if (env.OMP_NUM_THREADS === undefined) defaults.OMP_NUM_THREADS = "1";
  const level = colourDepth >= 24 ? 3 : colourDepth >= 8 ? 2 : colourDepth >= 4 ? 1 : 0;
  if (level > 0 && env.NO_COLOR === undefined && env.FORCE_COLOR === undefined) defaults.FORCE_COLOR = String(level);
  return defaults;
}
