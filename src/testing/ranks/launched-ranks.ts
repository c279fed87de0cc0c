import { deserialize, serialize } from "bun:jsc";
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { processState } from "../../status/index.ts";
import { faultText } from "../fault.ts";
import { describeHang, type KilledRank } from "../watch/hang.ts";
import { createOpLog, readOpLog } from "../watch/op-log.ts";
import { CapturedOutput } from "./captured-output.ts";
import { encodeFrame, FrameReader, type LaunchedMessage } from "./launched-protocol.ts";
import { GRACE_MS, type RankProcessInit } from "./rank-process.ts";
import type { RankOrder, ReportedError } from "./rank-protocol.ts";
import type { RankOutcome, RunningRank } from "./spawn-ranks.ts";

const wrapper = fileURLToPath(new URL("./launched-rank.sh", import.meta.url));
const runner = fileURLToPath(new URL("./launched-runner.ts", import.meta.url));
/** How long a launcher may take to notice that its ranks were killed. */
const LAUNCHER_END_MS = 3_000;

/** A rank whose process a launcher started; it is known only through the messages on its socket. */
export class LaunchedRank implements RunningRank {
  readonly rank: number;
  readonly init: RankProcessInit;
  pid = -1;
  value: unknown;
  error: ReportedError | undefined;
  readonly reports: unknown[] = [];
  killed: KilledRank | undefined;
  #ended = false;
  #listeners = new Set<() => void>();
  readonly #job: LaunchedJob;

  constructor(rank: number, init: RankProcessInit, job: LaunchedJob) {
    this.rank = rank;
    this.init = init;
    this.#job = job;
  }

  take(message: LaunchedMessage): void {
    if (message.kind === "value") this.value = message.value;
    else if (message.kind === "error") this.error = message.error;
    else if (message.kind === "report") this.reports.push(message.report);
    this.#notify();
  }

  kill(signal: NodeJS.Signals): void {
    if (this.pid > 0 && !this.#ended) process.kill(this.pid, signal);
  }

  killAsHung(): void {
    if (this.#ended) return;
    const afterMs = performance.now() - this.init.started;
    this.killed ??= { at: Date.now(), afterMs, process: processState(this.pid) };
    try {
      this.kill("SIGKILL");
    } catch {
      // It has ended in the meantime.
    }
    this.#job.killSoon();
  }

  async reported(match: (report: unknown) => boolean): Promise<unknown> {
    for (;;) {
      const found = this.reports.find(match);
      if (found !== undefined) return found;
      if (this.#ended) throw new Error(`rank ${this.rank} ended without the expected report`);
      await new Promise<void>((resolve) => this.#listeners.add(resolve));
    }
  }

  /** Its outcome, known once the job as a whole has ended. */
  async outcome(_others: readonly unknown[]): Promise<RankOutcome> {
    const launcher = await this.#job.ended;
    this.#ended = true;
    this.#notify();
    const read = (what: string): string => readText(join(this.#job.folder, `${this.rank}.${what}`));
    const code = read("exit").trim();
    const { exitCode, signal } = endOf(code);
    const { init } = this;
    const log = readOpLog(init.opLog);
    return {
      rank: this.rank,
      pid: this.pid,
      exitCode,
      signal,
      value: this.value,
      error: this.error,
      reports: this.reports,
      hung: this.killed !== undefined,
      hang: this.killed && describeHang(this.rank, log, this.killed),
      faults: init.faults.map((fault, i) => ({ fault: faultText(fault), fired: log?.fired[i] ?? false })),
      stdout: read("out"),
      stderr: read("err") + (code === "0" ? "" : launcher.output),
      durationMs: performance.now() - init.started,
    };
  }

  #notify(): void {
    for (const listener of this.#listeners) listener();
    this.#listeners.clear();
  }
}

/** The ranks of a job that a launcher such as mpirun starts. */
export class LaunchedJob {
  readonly ranks: readonly LaunchedRank[];
  readonly folder: string;
  readonly ended: Promise<{ readonly output: string }>;
  readonly #launcher: Bun.Subprocess<"ignore", "pipe", "pipe">;
  readonly #channel: Bun.UnixSocketListener<RankSocket>;

  /** `inits` are those of the ranks; `folder` is used by them alone. */
  constructor(launcher: readonly string[], inits: readonly RankProcessInit[], folder: string) {
    this.folder = folder;
    this.ranks = inits.map((init, rank) => new LaunchedRank(rank, init, this));
    for (const { opLog } of inits) createOpLog(opLog);
    const unix = join(folder, "channel");
    this.#channel = Bun.listen<RankSocket>({ unix, socket: this.#handlers() });
    try {
      this.#launcher = this.#launch(launcher, unix);
    } catch (error) {
      this.#channel.stop(true);
      throw error;
    }
    this.ended = this.#end();
  }

  #launch(launcher: readonly string[], channel: string): Bun.Subprocess<"ignore", "pipe", "pipe"> {
    const first = this.ranks[0]?.init;
    return Bun.spawn({
      cmd: [...launcher, "-n", String(this.ranks.length), "sh", wrapper, ...commandOf(first)],
      env: {
        // Jobs of Open MPI that begin or end at once disturb each other in a common session directory.
        OMPI_MCA_orte_tmpdir_base: this.folder,
        ...process.env,
        NO_COLOR: "1",
        MASTER_ADDR: "127.0.0.1",
        MASTER_PORT: String(first?.storePort),
        TORCHELASTIC_USE_AGENT_STORE: "True",
        C10D_STORE_SECRET: first?.secret ?? "",
        C10D_RANK_CHANNEL: channel,
        C10D_RANK_FOLDER: this.folder,
        ...first?.options.env,
      },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
  }

  /** Ends the launcher, and with it its remaining ranks, unless it ends by itself. */
  killSoon(): void {
    const timer = setTimeout(() => this.#launcher.kill("SIGKILL"), LAUNCHER_END_MS);
    void this.#launcher.exited.then(() => clearTimeout(timer));
  }

  async #end(): Promise<{ readonly output: string }> {
    const outputs = [this.#launcher.stdout, this.#launcher.stderr].map((pipe) => new CapturedOutput(pipe));
    await this.#launcher.exited;
    const [out = "", err = ""] = await Promise.all(outputs.map((output) => output.text(GRACE_MS)));
    this.#channel.stop(true);
    return { output: out + err };
  }

  #handlers(): Bun.SocketHandler<RankSocket> {
    return {
      open: (socket) => {
        const reader = new FrameReader((bytes) => this.#onMessage(socket, deserialize(bytes) as LaunchedMessage));
        socket.data = { rank: undefined, reader, unsent: new Uint8Array() };
      },
      data: (socket, bytes) => socket.data.reader.push(bytes),
      drain: flush,
    };
  }

  #onMessage(socket: Bun.Socket<RankSocket>, message: LaunchedMessage): void {
    if (message.kind !== "hello") {
      socket.data.rank?.take(message);
      return;
    }
    const rank = this.ranks[message.rank];
    if (rank === undefined) return;
    rank.pid = message.pid;
    socket.data.rank = rank;
    const { file, options, opLog, faults } = rank.init;
    const order: RankOrder = { file, args: options.args, opLog, faults };
    socket.data.unsent = encodeFrame(new Uint8Array(serialize(order)));
    flush(socket);
  }
}

interface RankSocket {
  rank: LaunchedRank | undefined;
  readonly reader: FrameReader;
  unsent: Uint8Array;
}

function flush(socket: Bun.Socket<RankSocket>): void {
  const { unsent } = socket.data;
  if (unsent.length > 0) socket.data.unsent = unsent.subarray(Math.max(socket.write(unsent), 0));
}

function commandOf(init: RankProcessInit | undefined): readonly string[] {
  return [...(init?.options.runtime ?? [process.execPath]), runner];
}

/** A shell reports a signal as its number plus 128; without a code, the launcher ended the rank. */
function endOf(code: string): { exitCode: number | null; signal: string | null } {
  if (code === "") return { exitCode: null, signal: "SIGTERM" };
  const number = Number(code);
  if (number <= 128) return { exitCode: number, signal: null };
  const signal = Object.entries(constants.signals).find(([, value]) => value === number - 128)?.[0];
  return signal === undefined ? { exitCode: number, signal: null } : { exitCode: null, signal };
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
