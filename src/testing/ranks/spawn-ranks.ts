import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { InvalidArgumentError, messageOf } from "../../errors/index.ts";
import { TCPStoreServer } from "../../store/index.ts";
import { newSecret } from "../../store/tcp/store-secret.ts";
import { startTimer, type Timeout, timeoutMs } from "../../time/index.ts";
import { type Fault, type FaultOutcome, faultsOfRank, parseFaults } from "../fault.ts";
import type { RankHang } from "../watch/hang.ts";
import { LaunchedJob, type LaunchedRank } from "./launched-ranks.ts";
import { pathOfFile } from "./rank-file.ts";
import { RankProcess } from "./rank-process.ts";
import { type ReportedError, requireCloneable } from "./rank-protocol.ts";

/** Options of {@link spawnRanks}. */
export interface SpawnOptions {
  /** Passed to the rank's function; must survive structured cloning. For a program: its arguments, as strings. */
  readonly args?: unknown;
  /** Limit of the whole job, after which ranks that still run are killed and reported as hung. 30 s by default. */
  readonly timeout?: Timeout;
  /** Ends the job when it is aborted, as if its time were up. */
  readonly signal?: AbortSignal;
  /** Environment on top of this process's own; `undefined` removes a variable. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /**
   * Command that runs the ranks instead of this Bun: another Bun, or a wrapper such as `["strace", "-f", "bun"]`. For a
   * file that is not TypeScript or JavaScript, the command that runs that program, e.g. `["python3"]`.
   */
  readonly runtime?: readonly string[];
  /**
   * Command that starts all ranks together, such as `["mpirun", "--oversubscribe"]`: `-n`, their number and the program
   * are appended. The rank numbers come from its variables. Only for TypeScript and JavaScript files.
   */
  readonly launcher?: readonly string[];
  /**
   * Faults to inject: `kill rank 2 before op 5`, `stop rank 1 after op 3`, `delay rank 0 before op 2 by 300ms`,
   * `drop rank 1 op 4`, or the same as {@link Fault}s. Ops are counted from 1, per rank.
   */
  readonly faults?: readonly (string | Fault)[];
  /**
   * Whether the store requires a secret, which the ranks receive in `C10D_STORE_SECRET` as from `c10d run`. Default is
   * `true`; `false` is for ranks that use PyTorch.
   */
  readonly storeSecret?: boolean;
  /** Stop the other ranks when one fails. Default is `false`: each rank's own outcome is of interest. */
  readonly failFast?: boolean;
}

/** How a rank ended. */
export interface RankOutcome {
  readonly rank: number;
  readonly pid: number;
  readonly exitCode: number | null;
  /** Signal that ended it, e.g. `SIGKILL`. */
  readonly signal: string | null;
  /** What its function returned. */
  readonly value: unknown;
  /** What its function threw. */
  readonly error: ReportedError | undefined;
  /** What it passed to `report()`, in order. */
  readonly reports: readonly unknown[];
  /** Whether it had to be killed because the job's time was up. */
  readonly hung: boolean;
  /** If it hung: in which op it was, for how long, and which ops came before. */
  readonly hang: RankHang | undefined;
  /** Its lines of the fault script, and whether it reached each. */
  readonly faults: readonly FaultOutcome[];
  readonly stdout: string;
  readonly stderr: string;
  /** Milliseconds from the start of the job to the end of the rank. */
  readonly durationMs: number;
}

/** A running rank. */
export interface RunningRank {
  readonly rank: number;
  readonly pid: number;
  /** Resolves to the next report for which `match` holds; earlier ones count too. Rejects when the rank has ended. */
  reported(match: (report: unknown) => boolean): Promise<unknown>;
  /** Sends a signal: SIGKILL, SIGSTOP, SIGCONT … */
  kill(signal: NodeJS.Signals): void;
}

/** A job that {@link startRanks} started. */
export interface RunningJob {
  readonly ranks: readonly RunningRank[];
  /** Resolves when all ranks have ended. Never rejects because of a rank. */
  readonly done: Promise<RankOutcome[]>;
}

/** What the default export of a rank's file receives. */
export interface RankContext<Args = unknown> {
  readonly rank: number;
  readonly worldSize: number;
  readonly args: Args;
  /** Sends a message to the process that started the ranks. */
  report(message: unknown): void;
}

/** Type of the default export of a rank's file. */
export type RankBody<Args = unknown> = (context: RankContext<Args>) => unknown;

const DEFAULT_LIMIT_MS = 30_000;

/**
 * Runs the default export of `file` in `n` processes, as the ranks of one job: the environment is that of `c10d run`,
 * the store is hosted here. Resolves to the outcome of every rank, however it ended.
 *
 * A file that is not TypeScript or JavaScript is run as a program, by `runtime`; it has neither a value nor reports.
 *
 * @throws InvalidArgumentError for wrong options, faults included. Never rejects because of a rank.
 */
export async function spawnRanks(n: number, file: string | URL, options: SpawnOptions = {}): Promise<RankOutcome[]> {
  const job = await startRanks(n, file, options);
  return job.done;
}

/** The same, for tests that reach into running ranks. */
export async function startRanks(n: number, file: string | URL, options: SpawnOptions = {}): Promise<RunningJob> {
  if (!Number.isInteger(n) || n < 1)
    throw new InvalidArgumentError(`spawnRanks: n must be a positive integer, got ${n}`, { argument: "n" });
  const path = pathOfFile("spawnRanks", file);
  const limitMs = timeoutMs(options.timeout, DEFAULT_LIMIT_MS);
  const faults = parseFaults(options.faults ?? [], n);
  requireRuntime(path, options, faults);
  requireCloneable("spawnRanks", options.args);
  const secret = options.storeSecret === false ? null : newSecret();
  const server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0, secret });
  const folder = mkdtempSync(join(tmpdir(), "c10d-ranks-"));
  const statusFolder = join(folder, "status");
  mkdirSync(statusFolder, { mode: 0o700 });
  const started = performance.now();
  const inits = Array.from({ length: n }, (_, rank) => ({
    worldSize: n,
    file: path,
    isModule: isModule(path),
    storePort: server.port,
    secret,
    faults: faultsOfRank(faults, rank),
    opLog: join(folder, `rank-${rank}`),
    statusFolder,
    started,
    options,
  }));
  const release = async (): Promise<void> => {
    rmSync(folder, { recursive: true, force: true });
    await server.close();
  };
  const { launcher } = options;
  let processes: readonly (RankProcess | LaunchedRank)[];
  try {
    processes = launcher === undefined ? RankProcess.startAll(inits) : new LaunchedJob(launcher, inits, folder).ranks;
  } catch (cause) {
    await release();
    const [command] = launcher ?? options.runtime ?? [process.execPath];
    const text = `spawnRanks: cannot run ${command}: ${messageOf(cause)}`;
    throw new InvalidArgumentError(text, { argument: launcher === undefined ? "runtime" : "launcher", cause });
  }
  const giveUp = (): void => {
    for (const each of processes) each.killAsHung();
  };
  const timer = startTimer(limitMs, giveUp);
  options.signal?.addEventListener("abort", giveUp);
  if (options.signal?.aborted) giveUp();
  const finish = async (): Promise<RankOutcome[]> => {
    try {
      const others = options.failFast ? processes.filter((each) => each instanceof RankProcess) : [];
      return await Promise.all(processes.map((each) => each.outcome(others)));
    } finally {
      timer[Symbol.dispose]();
      options.signal?.removeEventListener("abort", giveUp);
      await release();
    }
  };
  return { ranks: processes, done: finish() };
}

/** Whether a rank imports the file; otherwise the file is a program. */
function isModule(path: string): boolean {
  return /\.[cm]?[jt]sx?$/.test(path);
}

function requireRuntime(path: string, { runtime, launcher, args }: SpawnOptions, faults: readonly Fault[]): void {
  if (runtime?.length === 0) throw new InvalidArgumentError("spawnRanks: runtime is empty", { argument: "runtime" });
  if (isModule(path)) return;
  if (launcher !== undefined) {
    throw new InvalidArgumentError(`spawnRanks: ${path} is not TypeScript or JavaScript, which a launcher needs`, {
      argument: "launcher",
    });
  }
  if (runtime === undefined) {
    throw new InvalidArgumentError(
      `spawnRanks: ${path} is not TypeScript or JavaScript; name what runs it, e.g. runtime: ["python3"]`,
      { argument: "runtime" },
    );
  }
  if (args !== undefined && !(Array.isArray(args) && args.every((each) => typeof each === "string"))) {
    throw new InvalidArgumentError("spawnRanks: the args of a program must be a list of strings", { argument: "args" });
  }
  if (faults.length > 0) {
    throw new InvalidArgumentError(
      "spawnRanks: faults need ranks that use bun-c10d; the ops of a program are not seen",
      {
        argument: "faults",
      },
    );
  }
}
