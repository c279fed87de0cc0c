import { fileURLToPath } from "node:url";
import { processState, type RankStatus, readStatuses } from "../../status/index.ts";
import { type Fault, faultText } from "../fault.ts";
import { describeHang, type KilledRank } from "../watch/hang.ts";
import { createOpLog, readOpLog } from "../watch/op-log.ts";
import { CapturedOutput, endOrGrace } from "./captured-output.ts";
import type { RankMessage, RankOrder, ReportedError } from "./rank-protocol.ts";
import type { RankOutcome, RunningRank, SpawnOptions } from "./spawn-ranks.ts";

/** How long the output and messages of a rank may take to arrive after it ended. */
export const GRACE_MS = 2_000;
const runner = fileURLToPath(new URL("./rank-runner.ts", import.meta.url));

export interface RankProcessInit {
  readonly worldSize: number;
  readonly file: string;
  /** Whether the file's default export is to be run, or else the file as a program. */
  readonly isModule: boolean;
  readonly storePort: number;
  readonly secret: string | null;
  /** Faults of this rank. */
  readonly faults: readonly Fault[];
  /** Path of the log of its ops. */
  readonly opLog: string;
  /** Folder for the status records of the ranks. */
  readonly statusFolder: string;
  /** When the job began, on the monotonic clock. */
  readonly started: number;
  readonly options: SpawnOptions;
}

/** A rank in a process of its own. */
export class RankProcess implements RunningRank {
  /** Starts all ranks, or none: throws the system's error for a command that cannot be run. */
  static startAll(inits: readonly RankProcessInit[]): readonly RankProcess[] {
    const started: RankProcess[] = [];
    try {
      for (const [rank, init] of inits.entries()) started.push(new RankProcess(rank, init));
    } catch (error) {
      for (const each of started) each.kill("SIGKILL");
      throw error;
    }
    return started;
  }

  readonly #init: RankProcessInit;
  readonly #process: Bun.Subprocess<"ignore", "pipe", "pipe">;
  readonly #reports: unknown[] = [];
  readonly #listeners = new Set<() => void>();
  readonly #stdout: CapturedOutput;
  readonly #stderr: CapturedOutput;
  readonly #disconnected = Promise.withResolvers<void>();
  #value: unknown;
  #error: ReportedError | undefined;
  #killed: KilledRank | undefined;
  #ended = false;

  constructor(
    readonly rank: number,
    init: RankProcessInit,
  ) {
    this.#init = init;
    const { options, file, isModule, worldSize } = init;
    const args = isModule ? [runner] : [file, ...((options.args as readonly string[] | undefined) ?? [])];
    this.#process = Bun.spawn({
      cmd: [...(options.runtime ?? [process.execPath]), ...args],
      env: {
        ...process.env,
        NO_COLOR: "1",
        RANK: String(rank),
        LOCAL_RANK: String(rank),
        WORLD_SIZE: String(worldSize),
        LOCAL_WORLD_SIZE: String(worldSize),
        MASTER_ADDR: "127.0.0.1",
        MASTER_PORT: String(init.storePort),
        TORCHELASTIC_USE_AGENT_STORE: "True",
        C10D_STORE_SECRET: init.secret ?? "",
        C10D_STATUS_DIR: init.statusFolder,
        ...options.env,
      },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      ...(isModule && {
        serialization: "advanced",
        ipc: (message: RankMessage) => this.#onMessage(message),
        onDisconnect: () => this.#disconnected.resolve(),
      }),
    });
    this.#stdout = new CapturedOutput(this.#process.stdout);
    this.#stderr = new CapturedOutput(this.#process.stderr);
    if (!isModule) {
      this.#disconnected.resolve();
      return;
    }
    createOpLog(init.opLog);
    const order: RankOrder = { file, args: options.args, opLog: init.opLog, faults: init.faults };
    this.#process.send(order);
  }

  get pid(): number {
    return this.#process.pid;
  }

  kill(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  killAsHung(): void {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const afterMs = performance.now() - this.#init.started;
    this.#killed = { at: Date.now(), afterMs, process: processState(this.pid), status: this.#status };
    this.#process.kill("SIGKILL");
  }

  get #status(): RankStatus | undefined {
    return readStatuses(this.#init.statusFolder).find(({ pid }) => pid === this.pid);
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
    await this.#process.exited;
    const durationMs = performance.now() - this.#init.started;
    const { exitCode, signalCode } = this.#process;
    if (exitCode !== 0) for (const other of stopOnFailure) other.kill("SIGTERM");
    const [stdout, stderr] = await Promise.all([
      this.#stdout.text(GRACE_MS),
      this.#stderr.text(GRACE_MS),
      endOrGrace(this.#disconnected.promise, GRACE_MS),
    ]);
    this.#process.disconnect();
    this.#ended = true;
    this.#notify();
    const log = this.#init.isModule ? readOpLog(this.#init.opLog) : undefined;
    return {
      rank: this.rank,
      pid: this.pid,
      exitCode,
      signal: signalCode === null ? null : String(signalCode),
      value: this.#value,
      error: this.#error,
      reports: this.#reports,
      hung: this.#killed !== undefined,
      hang: this.#killed && describeHang(this.rank, log, this.#killed),
      faults: this.#init.faults.map((fault, i) => ({ fault: faultText(fault), fired: log?.fired[i] ?? false })),
      stdout,
      stderr,
      durationMs,
    };
  }

  #onMessage(message: RankMessage): void {
    if (message.kind === "value") this.#value = message.value;
    else if (message.kind === "error") this.#error = message.error;
    else this.#reports.push(message.report);
    // It may exit now: if the rank disconnected by itself, messages in flight would be lost.
    if (message.kind !== "report") this.#process.disconnect();
    this.#notify();
  }

  #notify(): void {
    for (const listener of this.#listeners) listener();
    this.#listeners.clear();
  }
}
