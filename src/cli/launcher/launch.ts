import * as Data from "effect/Data";
import * as Effect from "effect/Effect";
import * as Queue from "effect/Queue";
import type * as Scope from "effect/Scope";
import { TCPStoreServer } from "../../store/index.ts";
import { mintSecret } from "../../store/tcp/store-secret.ts";
import {
  blamesPeer,
  failureReport,
  isFailure,
  rankExitCode,
  ranks as rankList,
  seconds,
  signalExitCode,
  stopLine,
} from "./failure-report.ts";
import { JobOutput, type OutputStream, StdioSink } from "./job-output.ts";
import { OrphanGuard } from "./orphan-guard.ts";
import { defaultEnvironment, rankEnvironment } from "./rank-environment.ts";
import { type RankExit, RankProcess } from "./rank-process.ts";

export interface JobOptions {
  readonly worldSize: number;
  /** Program and arguments of every rank. */
  readonly command: readonly string[];
  /** Address that the store listens on and that the ranks connect to. */
  readonly masterAddr: string;
  /** 0 for a free port. */
  readonly masterPort: number;
  /** Limit of the whole job in milliseconds; `Infinity` for none. */
  readonly timeoutMs: number;
  /** Time from the request to end to SIGKILL, in milliseconds. */
  readonly graceMs: number;
  readonly prefix: boolean;
  /** Variables that every rank gets beside the launcher's own. */
  readonly env: Readonly<Record<string, string>>;
  /** Whether the store speaks PyTorch's open protocol instead of wanting a secret. */
  readonly torchCompat: boolean;
}

const timeoutExitCode = 124;

/** How long the launcher waits for the rank that caused a failure when the first one to end blames a peer. */
const culpritWaitMs = 1_500;
/** How long it waits for the last words of a rank before it reads them. */
const lastWordsMs = 200;
/** A process that the kernel holds (device drivers) outlives SIGKILL; the launcher does not wait for it longer. */
const killWaitMs = 5_000;

const forwarded = ["SIGINT", "SIGTERM", "SIGHUP"] as const satisfies NodeJS.Signals[];

class RankFailed extends Data.TaggedError("RankFailed")<{ readonly exit: RankExit }> {}
class JobSignalled extends Data.TaggedError("JobSignalled")<{ readonly signal: NodeJS.Signals }> {}
class JobTimedOut extends Data.TaggedError("JobTimedOut") {}

/** Runs a job on this host to its end and resolves to the exit code that stands for it. No rank outlives it. */
export function launch(options: JobOptions): Promise<number> {
  return Effect.runPromise(Effect.scoped(runJob(options)));
}

const runJob = Effect.fnUntraced(function* (options: JobOptions) {
  const signals = yield* incomingSignals;
  const output = new JobOutput(
    {
      // Whoever read the output has gone: the job ends as a program does that SIGPIPE ends.
      stdout: new StdioSink(process.stdout, () => Queue.offerUnsafe(signals, "SIGPIPE")),
      stderr: new StdioSink(process.stderr, () => Queue.offerUnsafe(signals, "SIGPIPE")),
    },
    { prefix: options.prefix && options.worldSize > 1 },
  );
  const secret = options.torchCompat ? null : process.env.C10D_STORE_SECRET || mintSecret();
  const onDrop = tellOfOpenClients(output);
  const server = yield* Effect.acquireRelease(
    Effect.tryPromise({
      try: () => TCPStoreServer.listen({ host: options.masterAddr, port: options.masterPort, secret, onDrop }),
      catch: (error) => error,
    }),
    (store) => Effect.promise(() => store.close()),
  );
  if (secret === null) yield* Effect.promise(() => output.note(openStoreNote(server)));
  const ranks = yield* startRanks(options, server.port, secret, output);
  const job = new Job(options, ranks, output, signals);
  return yield* job.supervise();
});

function openStoreNote({ address, port }: TCPStoreServer): string {
  const where = `${address}:${port}`;
  return `c10d run: the store at ${where} speaks PyTorch's open protocol: whoever reaches it can read and write it.\n`;
}

/** Tells once, what else would be a riddle, that a program was refused because it knows no secret. */
function tellOfOpenClients(output: JobOutput): (reason: string, peer: string, code: string) => void {
  let told = false;
  return (_, __, code) => {
    if (told || code !== "SECRET_REQUIRED") return;
    told = true;
    void output.note(
      "c10d run: a client of the store was refused: it speaks PyTorch's open protocol and the store of this job wants " +
        "its secret. For ranks that use PyTorch, give --torch-compat.\n",
    );
  };
}

const incomingSignals: Effect.Effect<Queue.Queue<NodeJS.Signals>, never, Scope.Scope> = Effect.gen(function* () {
  const queue = yield* Queue.unbounded<NodeJS.Signals>();
  const onSignal = (signal: NodeJS.Signals) => void Queue.offerUnsafe(queue, signal);
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      for (const signal of forwarded) process.on(signal, onSignal);
    }),
    () =>
      Effect.sync(() => {
        for (const signal of forwarded) process.off(signal, onSignal);
      }),
  );
  return queue;
});

/** Starts all ranks; when the scope ends, those that still run are killed. */
const startRanks = Effect.fnUntraced(function* (
  options: JobOptions,
  masterPort: number,
  secret: string | null,
  output: JobOutput,
) {
  const ranks: RankProcess[] = [];
  const guard = yield* Effect.acquireRelease(
    Effect.sync(() => new OrphanGuard(options.graceMs)),
    (orphanGuard) => Effect.sync(() => orphanGuard[Symbol.dispose]()),
  );
  yield* Effect.addFinalizer(() =>
    Effect.promise(async () => {
      for (const rank of ranks) rank.signal("SIGKILL");
      await Promise.race([Promise.all(ranks.map((rank) => rank.exited)), Bun.sleep(killWaitMs)]);
    }),
  );
  const { worldSize, masterAddr } = options;
  const address = { worldSize, masterAddr, masterPort, runId: crypto.randomUUID(), secret };
  const alone = worldSize === 1;
  const onTerminal = process.stdout.isTTY && process.stderr.isTTY;
  const defaults = defaultEnvironment(process.env, onTerminal && !alone ? process.stdout.getColorDepth() : 1);
  const inherit: OutputStream[] = !alone ? [] : process.stderr.isTTY ? ["stdout", "stderr"] : ["stdout"];
  const guardRunning = () => guard.watch(ranks.filter((rank) => rank.exit === undefined).map((rank) => rank.pid));
  for (let rank = 0; rank < worldSize; rank++) {
    const started = yield* Effect.try({
      try: () =>
        new RankProcess({
          rank,
          command: options.command,
          env: { ...process.env, ...defaults, ...options.env, ...rankEnvironment(rank, address) },
          output,
          inherit,
          stdin: rank === 0,
        }),
      catch: (error) => error,
    });
    ranks.push(started);
    guardRunning();
    void started.exited.then(guardRunning);
  }
  return ranks;
});

/** The ranks that run, and what ends them. */
class Job {
  constructor(
    readonly options: JobOptions,
    readonly ranks: readonly RankProcess[],
    readonly output: JobOutput,
    readonly signals: Queue.Queue<NodeJS.Signals>,
  ) {}

  /** Waits for the end of the job, whatever it is; all ranks have ended then and the last word is printed. */
  supervise(): Effect.Effect<number> {
    const { timeoutMs } = this.options;
    const signalled = Queue.take(this.signals).pipe(
      Effect.flatMap((signal) => Effect.fail(new JobSignalled({ signal }))),
    );
    const ended = Effect.forEach(this.ranks, failIfRankFails, { concurrency: "unbounded", discard: true }).pipe(
      Effect.raceFirst(signalled),
    );
    const limited = Number.isFinite(timeoutMs)
      ? ended.pipe(Effect.timeoutOrElse({ duration: timeoutMs, orElse: () => Effect.fail(new JobTimedOut()) }))
      : ended;
    return limited.pipe(
      Effect.andThen(this.#drain()),
      Effect.as(0),
      Effect.catchTags({
        RankFailed: ({ exit }) => this.#onFailure(exit),
        JobSignalled: ({ signal }) => this.#onSignal(signal),
        JobTimedOut: () => this.#onTimeout(),
      }),
    );
  }

  #onFailure(firstToEnd: RankExit): Effect.Effect<number> {
    return Effect.gen({ self: this }, function* () {
      const first = yield* this.#culprit(firstToEnd);
      const { stopped, killed } = yield* this.#stop("SIGTERM");
      yield* this.#drain();
      const stderrSeen = this.options.worldSize > 1 || !process.stderr.isTTY;
      const stderrTail = this.ranks[first.rank]?.stderrTail ?? [];
      yield* this.#print(failureReport({ first, stderrTail, stderrSeen, stopped, killed }));
      return rankExitCode(first);
    });
  }

  #onSignal(signal: NodeJS.Signals): Effect.Effect<number> {
    return Effect.gen({ self: this }, function* () {
      const { stopped, killed } = yield* this.#stop(signal);
      yield* this.#drain();
      yield* this.#print(`c10d run: ended by ${signal}; ${stopLine(stopped, killed)}\n`);
      return signalExitCode(signal);
    });
  }

  #onTimeout(): Effect.Effect<number> {
    return Effect.gen({ self: this }, function* () {
      const { stopped, killed } = yield* this.#stop("SIGTERM");
      yield* this.#drain();
      const limit = seconds(this.options.timeoutMs);
      const running = `${rankList(stopped)} had not ended after ${limit} (--timeout)`;
      yield* this.#print(`\nc10d run: the job timed out: ${running}; ${stopLine(stopped, killed)}\n`);
      return timeoutExitCode;
    });
  }

  /** The failure to report: where the first rank to end blames a peer, the one that fails next without doing so. */
  #culprit(first: RankExit): Effect.Effect<RankExit> {
    const failIfCulprit = Effect.fnUntraced(function* (rank: RankProcess) {
      const exit = yield* Effect.promise(() => rank.exited);
      if (!isFailure(exit)) return;
      yield* Effect.promise(() => Promise.race([rank.drained, Bun.sleep(lastWordsMs)]));
      if (!blamesPeer(rank.stderrTail)) yield* new RankFailed({ exit });
    });
    const inOrder = [...this.ranks].sort((a, b) => Number(b.rank === first.rank) - Number(a.rank === first.rank));
    const [firstRank, ...others] = inOrder;
    if (firstRank === undefined) return Effect.succeed(first);
    return failIfCulprit(firstRank).pipe(
      Effect.andThen(Effect.forEach(others, failIfCulprit, { concurrency: "unbounded", discard: true })),
      Effect.as(first),
      Effect.timeoutOrElse({ duration: culpritWaitMs, orElse: () => Effect.succeed(first) }),
      Effect.catchTag("RankFailed", ({ exit }) => Effect.succeed(exit)),
    );
  }

  /** Sends `signal` to the ranks that run and waits for their end; after the grace period or a SIGINT kills them. */
  #stop(signal: NodeJS.Signals): Effect.Effect<{ readonly stopped: number[]; readonly killed: number[] }> {
    return Effect.gen({ self: this }, function* () {
      const running = this.ranks.filter((rank) => rank.exit === undefined);
      const allEnded = Effect.promise(() => Promise.all(running.map((rank) => rank.exited)));
      this.#signalRanks(signal);
      yield* allEnded.pipe(
        Effect.raceFirst(Effect.sleep(this.options.graceMs)),
        Effect.raceFirst(this.#forwardUntilInterrupted()),
      );
      const stubborn = running.filter((rank) => rank.exit === undefined);
      this.#signalRanks("SIGKILL");
      yield* allEnded.pipe(Effect.timeoutOption(killWaitMs));
      return { stopped: running.map((rank) => rank.rank), killed: stubborn.map((rank) => rank.rank) };
    });
  }

  #forwardUntilInterrupted(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      for (;;) {
        const signal = yield* Queue.take(this.signals);
        if (signal === "SIGINT") return;
        this.#signalRanks(signal);
      }
    });
  }

  #signalRanks(signal: NodeJS.Signals): void {
    for (const rank of this.ranks) rank.signal(signal === "SIGPIPE" ? "SIGTERM" : signal);
  }

  /** Waits until the output of the ranks is written; a signal ends that, in case nobody reads it. */
  #drain(): Effect.Effect<void> {
    return Effect.promise(() => Promise.all(this.ranks.map((rank) => rank.drained))).pipe(
      Effect.raceFirst(Queue.take(this.signals)),
      Effect.asVoid,
    );
  }

  #print(text: string): Effect.Effect<void> {
    return Effect.promise(() => this.output.note(text)).pipe(Effect.raceFirst(Queue.take(this.signals)), Effect.asVoid);
  }
}

const failIfRankFails = Effect.fnUntraced(function* (rank: RankProcess) {
  const exit = yield* Effect.promise(() => rank.exited);
  if (isFailure(exit)) yield* new RankFailed({ exit });
});
