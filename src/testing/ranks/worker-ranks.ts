import { pathToFileURL } from "node:url";
import { Coordinator } from "../../backends/fake/exchange/coordinator.ts";
import type { WorkerSlot } from "../../backends/fake/exchange/worker-protocol.ts";
import { InvalidArgumentError } from "../../errors/index.ts";
import { TCPStoreServer } from "../../store/index.ts";
import { newSecret } from "../../store/tcp/store-secret.ts";
import { startTimer, timeoutMs } from "../../time/index.ts";
import { describeHang } from "../watch/hang.ts";
import { readOpLog, shareOpLog } from "../watch/op-log.ts";
import { pathOfFile } from "./rank-file.ts";
import { type RankMessage, type ReportedError, reportError, requireCloneable } from "./rank-protocol.ts";
import type { RankOutcome, SpawnOptions } from "./spawn-ranks.ts";

/** Options of {@link workerRanks}. */
export type WorkerRanksOptions = Pick<SpawnOptions, "args" | "timeout" | "signal" | "env" | "failFast">;

/** How a rank in a Worker ended. */
export type WorkerOutcome = Pick<
  RankOutcome,
  "rank" | "exitCode" | "value" | "error" | "reports" | "hung" | "hang" | "durationMs"
>;

/** What a Worker is to run; sent to it when it starts. */
export interface WorkerOrder {
  readonly file: string;
  readonly args: unknown;
  readonly slot: WorkerSlot;
  readonly opLog: SharedArrayBuffer;
}

const DEFAULT_LIMIT_MS = 30_000;

/**
 * Runs the default export of `file` in `n` Workers of this process, as the ranks of one job. The file is one that
 * `spawnRanks` could run too: `initProcessGroup()` finds rank, world size and store in the environment, which is that
 * of `c10d run`; the backend is `fake` unless the file, or `env.C10D_BACKEND`, names another one.
 *
 * Ranks exchange real data, as in `localRanks`, but each has a thread of its own: it may block in `wait()`.
 *
 * @returns The outcome of every rank. Never rejects because of one; a rank that hangs is terminated.
 */
export async function workerRanks(
  n: number,
  file: string | URL,
  options: WorkerRanksOptions = {},
): Promise<WorkerOutcome[]> {
  if (!Number.isInteger(n) || n < 1) {
    throw new InvalidArgumentError(`workerRanks: n must be a positive integer, got ${n}`, { argument: "n" });
  }
  const limitMs = timeoutMs(options.timeout, DEFAULT_LIMIT_MS);
  requireCloneable("workerRanks", options.args);
  const path = pathOfFile("workerRanks", file);
  const secret = newSecret();
  const server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0, secret });
  const coordinator = new Coordinator();
  const job = {
    file: pathToFileURL(path).href,
    worldSize: n,
    env: { MASTER_ADDR: "127.0.0.1", MASTER_PORT: String(server.port), C10D_STORE_SECRET: secret },
    coordinator,
    options,
  };
  const workers = Array.from({ length: n }, (_, rank) => new RankWorker(rank, job));
  const giveUp = (): void => {
    for (const each of workers) each.terminateAsHung();
  };
  const timer = startTimer(limitMs, giveUp);
  options.signal?.addEventListener("abort", giveUp);
  if (options.signal?.aborted) giveUp();
  try {
    return await Promise.all(workers.map((each) => each.outcome(options.failFast ? workers : [])));
  } finally {
    timer[Symbol.dispose]();
    options.signal?.removeEventListener("abort", giveUp);
    coordinator.close();
    await server.close();
  }
}

interface WorkerJob {
  readonly file: string;
  readonly worldSize: number;
  readonly env: Readonly<Record<string, string>>;
  readonly coordinator: Coordinator;
  readonly options: WorkerRanksOptions;
}

class RankWorker {
  readonly #worker: Worker;
  readonly #opLog = shareOpLog();
  readonly #started = performance.now();
  readonly #reports: unknown[] = [];
  readonly #ended = Promise.withResolvers<number>();
  #value: unknown;
  #error: ReportedError | undefined;
  #done = false;
  #killed: { readonly at: number; readonly afterMs: number; readonly process: undefined } | undefined;
  #exited = false;

  constructor(
    readonly rank: number,
    { file, worldSize, env, coordinator, options }: WorkerJob,
  ) {
    const { slot, ended } = coordinator.addWorker();
    this.#worker = new Worker(new URL("./worker-runner.ts", import.meta.url), {
      name: `rank ${rank}`,
      env: environment({
        ...process.env,
        C10D_BACKEND: "fake",
        RANK: String(rank),
        LOCAL_RANK: String(rank),
        WORLD_SIZE: String(worldSize),
        LOCAL_WORLD_SIZE: String(worldSize),
        TORCHELASTIC_USE_AGENT_STORE: "True",
        ...env,
        ...options.env,
      }),
    });
    this.#worker.addEventListener("message", ({ data }: MessageEvent<RankMessage>) => this.#onMessage(data));
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.#error ??= reportError(event.error ?? new Error(event.message));
    });
    this.#worker.addEventListener("close", (event) => {
      this.#exited = true;
      ended("has ended");
      this.#ended.resolve((event as CloseEvent).code);
    });
    const order: WorkerOrder = { file, args: options.args, slot, opLog: this.#opLog };
    this.#worker.postMessage(order, [slot.port]);
  }

  terminateAsHung(): void {
    if (this.#exited || this.#done) return;
    this.#killed = { at: Date.now(), afterMs: performance.now() - this.#started, process: undefined };
    this.#worker.terminate();
  }

  terminate(): void {
    if (!this.#exited) this.#worker.terminate();
  }

  async outcome(stopOnFailure: readonly RankWorker[]): Promise<WorkerOutcome> {
    const code = await this.#ended.promise;
    const durationMs = performance.now() - this.#started;
    const failed = !this.#done || this.#error !== undefined;
    if (failed) for (const other of stopOnFailure) other.terminate();
    if (!this.#done && this.#killed === undefined) {
      this.#error ??= reportError(new Error(`the Worker of rank ${this.rank} ended before its function did`));
    }
    return {
      rank: this.rank,
      exitCode: failed && code === 0 ? 1 : code,
      value: this.#value,
      error: this.#error,
      reports: this.#reports,
      hung: this.#killed !== undefined,
      hang: this.#killed && describeHang(this.rank, readOpLog(this.#opLog), this.#killed),
      durationMs,
    };
  }

  #onMessage(message: RankMessage): void {
    if (message.kind === "report") {
      this.#reports.push(message.report);
      return;
    }
    if (message.kind === "value") this.#value = message.value;
    else this.#error = message.error;
    this.#done = true;
    this.#worker.terminate();
  }
}

/** The variables that have a value. */
function environment(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );
}
