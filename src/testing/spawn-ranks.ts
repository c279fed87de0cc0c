import { fileURLToPath } from "node:url";
import { InvalidArgumentError, type Timeout, timeoutMs } from "../errors/index.ts";
import { TCPStoreServer } from "../store/index.ts";
import { mintSecret } from "../store/tcp/store-secret.ts";
import type { RankMessage, RankOrder, ReportedError } from "./rank-protocol.ts";

export interface SpawnOptions {
  /** Given to the rank's function; must survive structured cloning. */
  readonly args?: unknown;
  /** Limit of the whole job, after which ranks that still run are killed and reported as hung. 30 s by default. */
  readonly timeout?: Timeout;
  /** Environment on top of this process's own; `undefined` removes a variable. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Command that runs the ranks instead of this Bun, e.g. a wrapper that sets up a library path. */
  readonly runtime?: readonly string[];
  /**
   * Whether the store wants a secret, which the ranks get by `C10D_STORE_SECRET` as from `c10d run`. Default is `true`;
   * `false` is for ranks that use PyTorch.
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
  readonly stdout: string;
  readonly stderr: string;
  /** Milliseconds from the start of the job to the end of the rank. */
  readonly durationMs: number;
}

/** A rank that runs. */
export interface RunningRank {
  readonly rank: number;
  readonly pid: number;
  /** Resolves to the next report for which `match` holds; earlier ones count too. Rejects when the rank has ended. */
  reported(match: (report: unknown) => boolean): Promise<unknown>;
  /** Sends a signal: SIGKILL, SIGSTOP, SIGCONT … */
  kill(signal: NodeJS.Signals): void;
}

export interface RunningJob {
  readonly ranks: readonly RunningRank[];
  /** Resolves when all ranks have ended. Never rejects because of a rank. */
  readonly done: Promise<RankOutcome[]>;
}

/** What the default export of a rank's file gets. */
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
const runner = fileURLToPath(new URL("./rank-runner.ts", import.meta.url));

/**
 * Runs the default export of `file` in `n` processes, as the ranks of one job: the environment is that of `c10d run`,
 * the store is hosted here. Resolves to the outcome of every rank, however it ended.
 */
export async function spawnRanks(n: number, file: string | URL, options: SpawnOptions = {}): Promise<RankOutcome[]> {
  const job = await startRanks(n, file, options);
  return job.done;
}

/** The same, for tests that reach into running ranks. */
export async function startRanks(n: number, file: string | URL, options: SpawnOptions = {}): Promise<RunningJob> {
  if (!Number.isInteger(n) || n < 1)
    throw new InvalidArgumentError(`spawnRanks: n must be a positive integer, got ${n}`);
  const path = file instanceof URL ? fileURLToPath(file) : file;
  const limitMs = timeoutMs(options.timeout, DEFAULT_LIMIT_MS);
  const secret = options.storeSecret === false ? null : mintSecret();
  const server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0, secret });
  const started = performance.now();
  const processes = Array.from(
    { length: n },
    (_, rank) => new RankProcess(rank, n, path, { port: server.port, secret }, options, started),
  );
  const timer = setTimeout(() => {
    for (const each of processes) each.killAsHung();
  }, limitMs);
  const finish = async (): Promise<RankOutcome[]> => {
    const outcomes = await Promise.all(processes.map((each) => each.outcome(options.failFast ? processes : [])));
    clearTimeout(timer);
    await server.close();
    return outcomes;
  };
  return { ranks: processes, done: finish() };
}

class RankProcess implements RunningRank {
  readonly #process: Bun.Subprocess<"ignore", "pipe", "pipe">;
  readonly #reports: unknown[] = [];
  readonly #listeners = new Set<() => void>();
  readonly #started: number;
  #value: unknown;
  #error: ReportedError | undefined;
  #hung = false;
  #ended = false;

  constructor(
    readonly rank: number,
    worldSize: number,
    file: string,
    store: { readonly port: number; readonly secret: string | null },
    options: SpawnOptions,
    started: number,
  ) {
    this.#started = started;
    const order: RankOrder = { file, args: options.args };
    this.#process = Bun.spawn({
      cmd: [...(options.runtime ?? [process.execPath]), runner],
      env: {
        ...process.env,
        NO_COLOR: "1",
        RANK: String(rank),
        LOCAL_RANK: String(rank),
        WORLD_SIZE: String(worldSize),
        LOCAL_WORLD_SIZE: String(worldSize),
        MASTER_ADDR: "127.0.0.1",
        MASTER_PORT: String(store.port),
        TORCHELASTIC_USE_AGENT_STORE: "True",
        C10D_STORE_SECRET: store.secret ?? "",
        ...options.env,
      },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      serialization: "advanced",
      ipc: (message: RankMessage) => this.#onMessage(message),
    });
    this.#process.send(order);
  }

  get pid(): number {
    return this.#process.pid;
  }

  kill(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  killAsHung(): void {
    if (this.#ended) return;
    this.#hung = true;
    this.#process.kill("SIGKILL");
  }

  async reported(match: (report: unknown) => boolean): Promise<unknown> {
    for (;;) {
      const found = this.#reports.find(match);
      if (found !== undefined) return found;
      if (this.#ended) throw new Error(`rank ${this.rank} ended without the expected report`);
      await new Promise<void>((resolve) => this.#listeners.add(resolve));
    }
  }

  async outcome(stopOnFailure: readonly RankProcess[]): Promise<RankOutcome> {
    const [stdout, stderr] = await Promise.all([
      new Response(this.#process.stdout).text(),
      new Response(this.#process.stderr).text(),
      this.#process.exited,
    ]);
    const durationMs = performance.now() - this.#started;
    this.#ended = true;
    this.#notify();
    const { exitCode, signalCode } = this.#process;
    if (exitCode !== 0) for (const other of stopOnFailure) if (!other.#ended) other.kill("SIGTERM");
    return {
      rank: this.rank,
      pid: this.pid,
      exitCode,
      signal: signalCode === null ? null : String(signalCode),
      value: this.#value,
      error: this.#error,
      reports: this.#reports,
      hung: this.#hung,
      stdout,
      stderr,
      durationMs,
    };
  }

  #onMessage(message: RankMessage): void {
    if (message.kind === "value") this.#value = message.value;
    else if (message.kind === "error") this.#error = message.error;
    else this.#reports.push(message.report);
    this.#notify();
  }

  #notify(): void {
    for (const listener of this.#listeners) listener();
    this.#listeners.clear();
  }
}
