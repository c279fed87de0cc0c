import { DistError, descriptorShortage, messageOf, shortageOfStart } from "../../errors/index.ts";
import type { JobOutput, OutputStream } from "./job-output.ts";
import { LineSplitter } from "./line-splitter.ts";
import type { LogFile } from "./log-file.ts";

/** Enough for an uncaught error with its cause, each with the excerpt of the source that Bun prints. */
const tailLines = 50;

/** How long a pipe may stay idle after its rank ended; only a process that left the rank's session holds it open. */
const drainIdleMs = 1_000;

export interface RankSpec {
  readonly rank: number;
  /** Number of ranks of this launcher. */
  readonly ranks: number;
  readonly command: readonly string[];
  readonly env: Record<string, string | undefined>;
  readonly output: JobOutput;
  /** Streams that the rank inherits from the launcher, bypassing `output` and `logs`. */
  readonly inherit: readonly OutputStream[];
  /** Files for streams, which are then printed only if `tee` is set. Closed when all is written. */
  readonly logs: Readonly<Partial<Record<OutputStream, LogFile>>>;
  readonly tee: boolean;
  /** Whether the rank reads the launcher's standard input. */
  readonly stdin: boolean;
}

export interface RankExit {
  readonly rank: number;
  readonly pid: number;
  /** `undefined` when a signal ended it. */
  readonly exitCode: number | undefined;
  readonly signal: NodeJS.Signals | number | undefined;
  /** Time from its start to its end. */
  readonly elapsedMs: number;
}

/** Roughly how many descriptors a launcher needs for pipes, log files, and connections to its store. */
export function descriptorsOfLauncher(ranks: number): number {
  return 20 + 6 * ranks;
}

function startRank(spec: RankSpec) {
  const inherit = (name: OutputStream) => (spec.inherit.includes(name) ? "inherit" : "pipe");
  try {
    return Bun.spawn({
      cmd: [...spec.command],
      env: spec.env,
      detached: true,
      stdin: spec.stdin ? "inherit" : "ignore",
      stdout: inherit("stdout"),
      stderr: inherit("stderr"),
    });
  } catch (cause) {
    const needed = descriptorsOfLauncher(spec.ranks);
    const shortage = shortageOfStart(cause, needed) ?? descriptorShortage(needed);
    const reason = shortage?.text ?? messageOf(cause);
    const code = shortage?.code ?? "LAUNCH_FAILED";
    throw new DistError(`cannot start rank ${spec.rank} (${spec.command[0]}): ${reason}`, {
      code,
      rank: spec.rank,
      cause,
    });
  }
}

/** One rank: a process in its own session, so that it and all its children can be signalled as one group. */
export class RankProcess {
  readonly rank: number;
  readonly pid: number;
  /** Settles when the process has ended; its output may still be in flight. */
  readonly exited: Promise<RankExit>;
  /** Settles when all output has been written. */
  readonly drained: Promise<void>;
  #exit: RankExit | undefined;
  #endedAt: number | undefined;
  readonly #stderrTail: string[] = [];

  /** @throws DistError `LAUNCH_FAILED` when the program cannot be started, or the code of the resource that ran out. */
  constructor(spec: RankSpec) {
    const startedAt = performance.now();
    const child = startRank(spec);
    this.rank = spec.rank;
    this.pid = child.pid;
    this.exited = child.exited.then(() => {
      const exit: RankExit = {
        rank: this.rank,
        pid: this.pid,
        exitCode: child.exitCode ?? undefined,
        signal: child.signalCode ?? undefined,
        elapsedMs: performance.now() - startedAt,
      };
      this.#exit = exit;
      this.#endedAt = Date.now();
      // Processes that a rank leaves behind in its group would hold the job's ports, memory and pipes.
      this.#signalGroup("SIGKILL");
      return exit;
    });
    this.drained = Promise.all([
      this.#pump("stdout", child.stdout, spec),
      this.#pump("stderr", child.stderr, spec),
      this.exited,
    ]).then(() => {});
  }

  /** How it ended; `undefined` while it runs. */
  get exit(): RankExit | undefined {
    return this.#exit;
  }

  /** When it ended, in milliseconds since the epoch. */
  get endedAt(): number | undefined {
    return this.#endedAt;
  }

  /** The last lines of its standard error. */
  get stderrTail(): readonly string[] {
    return this.#stderrTail;
  }

  /** Sends a signal to the rank and its children; nothing happens when it has ended. */
  signal(signal: NodeJS.Signals): void {
    if (this.#exit === undefined) this.#signalGroup(signal);
  }

  #signalGroup(signal: NodeJS.Signals): void {
    try {
      process.kill(-this.pid, signal);
    } catch {
      // The group has already ended.
    }
  }

  async #pump(name: OutputStream, pipe: ReadableStream<Uint8Array> | undefined, spec: RankSpec): Promise<void> {
    if (pipe === undefined) return;
    const { output } = spec;
    const log = spec.logs[name];
    const printed = log === undefined || spec.tee;
    const reader = pipe.getReader();
    const splitter = new LineSplitter();
    const write = (lines: readonly Uint8Array[]) => {
      if (name === "stderr") this.#keepTail(lines);
      return printed ? output.lines(this.rank, name, lines) : undefined;
    };
    let reads = 0;
    let waiting = true;
    let idleCheck: ReturnType<typeof setInterval> | undefined;
    let finished = false;
    void this.exited.then(() => {
      if (finished) return;
      let readsBefore = reads;
      idleCheck = setInterval(() => {
        if (waiting && reads === readsBefore) void reader.cancel();
        readsBefore = reads;
      }, drainIdleMs);
    });
    for (;;) {
      waiting = true;
      const { done, value } = await reader.read();
      waiting = false;
      reads++;
      if (done) break;
      await log?.write(value);
      await write(splitter.push(value));
      const bar = splitter.progress;
      if (printed && bar !== undefined) await output.progress(this.rank, name, bar);
      // When reads and writes complete at once, the loop would starve timers, signals and the store.
      await new Promise((resolve) => setImmediate(resolve));
    }
    finished = true;
    clearInterval(idleCheck);
    await write(splitter.end());
    await log?.close();
  }

  #keepTail(lines: readonly Uint8Array[]): void {
    const decoder = new TextDecoder();
    this.#stderrTail.push(...lines.slice(-tailLines).map((line) => decoder.decode(line)));
    this.#stderrTail.splice(0, this.#stderrTail.length - tailLines);
  }
}
