import { existsSync } from "node:fs";
import { hostname } from "node:os";
import { join, resolve } from "node:path";
import * as Data from "effect/Data";
import * as Effect from "effect/Effect";
import * as Queue from "effect/Queue";
import type * as Scope from "effect/Scope";
import { processEnvironment } from "../../environment/index.ts";
import type { RankStatus } from "../../status/index.ts";
import type { TCPStoreServer } from "../../store/index.ts";
import { newSecret } from "../../store/tcp/store-secret.ts";
import type { Dashboard } from "../dashboard/dashboard.ts";
import { hasEnded } from "../ranks/rank-row.ts";
import { AttemptStatus, NONE_CALLED, type StatusReport } from "./attempt-status.ts";
import { isFailure } from "./exit-code.ts";
import { blamesPeer, endReport, type StoppedRanks, tracesLine } from "./failure-report.ts";
import type { JobEvents } from "./job-events.ts";
import type { JobOptions } from "./job-options.ts";
import type { JobOutput, OutputStream } from "./job-output.ts";
import { openJobStore } from "./job-store.ts";
import { attemptFolder, LogFile, type LogFolder } from "./log-file.ts";
import { missedWithinMs } from "./node-group.ts";
import type { Nodes } from "./nodes.ts";
import { OrphanGuard } from "./orphan-guard.ts";
import { defaultEnvironment, globalRank, type JobPlace, rankEnvironment } from "./rank-environment.ts";
import { type RankExit, RankProcess } from "./rank-process.ts";
import { StallWatch } from "./stall-watch.ts";
import type { Verdict } from "./verdict.ts";

/** What the attempts of a job share. */
export interface Job {
  readonly options: JobOptions;
  readonly nodes: Nodes;
  readonly output: JobOutput;
  readonly events: JobEvents;
  readonly signals: Queue.Queue<NodeJS.Signals>;
  /** When the job times out, on the clock of `performance.now()`. */
  readonly deadline: number;
  readonly dashboard: Dashboard | undefined;
}

/** How long the launcher waits for the rank that caused a failure when the first one to end blames a peer. */
const culpritWaitMs = 1_500;
/** The same with several nodes: long enough to detect that a node's launcher, and with it its ranks, was killed. */
const culpritNodeWaitMs = missedWithinMs + 500;
/** How long it waits for the rest of a failed rank's stderr before it reads the tail. */
const stderrWaitMs = 200;
/** A process stuck in the kernel (device drivers) outlives SIGKILL; the launcher waits no longer than this for it. */
const killWaitMs = 5_000;

class RankFailed extends Data.TaggedError("RankFailed")<{ readonly rank: RankProcess; readonly exit: RankExit }> {}
class Ended extends Data.TaggedError("Ended")<{ readonly verdict: Verdict }> {}

/**
 * One attempt of a job on this node. Starts the ranks. When all have ended and the report is printed, resolves to what
 * ended the attempt, or to undefined when the ranks of all nodes have succeeded. No rank outlives the scope.
 */
export function runAttempt(job: Job, attempt: number): Effect.Effect<Verdict | undefined, never, Scope.Scope> {
  return new Attempt(job, attempt).run();
}

class Attempt {
  readonly #ranks: RankProcess[] = [];
  #status: AttemptStatus | undefined;
  /** What the ranks were doing when the first one failed. */
  #atFailure: StatusReport | undefined;

  constructor(
    readonly job: Job,
    readonly number: number,
  ) {}

  run(): Effect.Effect<Verdict | undefined, never, Scope.Scope> {
    const { nodes } = this.job;
    return this.#start().pipe(
      Effect.andThen(
        Effect.suspend(() => Effect.forEach(this.#ranks, failIfRankFails, { concurrency: "unbounded", discard: true })),
      ),
      Effect.andThen(Effect.promise((signal) => nodes.finished(this.number, signal))),
      Effect.raceFirst(this.#endFromOutside()),
      Effect.andThen(this.#drain()),
      Effect.as(undefined),
      Effect.catchTags({
        RankFailed: ({ rank, exit }) => {
          this.#atFailure = this.#status?.report(this.#ranks);
          this.job.dashboard?.look();
          return this.#culprit(rank, exit).pipe(Effect.flatMap((verdict) => this.#end(verdict)));
        },
        Ended: ({ verdict }) => this.#end(verdict),
      }),
    );
  }

  /** Starts all ranks of this node; those still running when the scope ends are killed. */
  #start(): Effect.Effect<void, never, Scope.Scope> {
    return Effect.gen({ self: this }, function* () {
      const { options, nodes, events } = this.job;
      const place = { ...(yield* this.#place()), statusFolder: yield* this.#openStatus() };
      const guard = yield* Effect.acquireRelease(
        Effect.sync(() => new OrphanGuard(options.graceMs)),
        (orphanGuard) => Effect.sync(() => orphanGuard[Symbol.dispose]()),
      );
      yield* Effect.addFinalizer(() =>
        Effect.promise(async () => {
          for (const rank of this.#ranks) rank.signal("SIGKILL");
          await Promise.race([Promise.all(this.#ranks.map((rank) => rank.exited)), Bun.sleep(killWaitMs)]);
        }),
      );
      const running = () => this.#ranks.filter((rank) => rank.exit === undefined);
      const guardRunning = () => guard.watch(running().map((rank) => rank.pid));
      for (let local = 0; local < options.ranksPerNode; local++) {
        const logs = yield* this.#openLogs(globalRank(local, place));
        const rank = yield* Effect.sync(() => this.#spawn(local, place, logs));
        this.#ranks.push(rank);
        guardRunning();
        void rank.exited.then(guardRunning);
      }
      const { node, nnodes, masterAddr, masterPort, runId } = place;
      // Not awaited, so that a reader that does not read its events cannot hold up the job.
      void events.emit({
        ...{ event: "started", runId, attempt: this.number, node, nnodes },
        ...{ worldSize: nodes.count * options.ranksPerNode, masterAddr, masterPort },
        ranks: this.#ranks.map(({ rank, pid }, localRank) => ({ rank, localRank, pid })),
      });
      for (const rank of this.#ranks) {
        void rank.exited.then((exit) => this.#status?.noteEnd(exit));
        void rank.exited.then((exit) => events.emit({ event: "rankEnded", attempt: this.number, ...exit }));
      }
    });
  }

  /** Where the ranks meet. Each attempt has its own store, so that none reads what an earlier one left. */
  #place(): Effect.Effect<JobPlace, never, Scope.Scope> {
    return Effect.gen({ self: this }, function* () {
      const { options, nodes, output } = this.job;
      const secret = options.secret === undefined ? newSecret() : options.secret;
      let server: TCPStoreServer | undefined;
      yield* Effect.addFinalizer(() => Effect.promise(async () => server?.close()));
      const open = async () => {
        // With several nodes the launchers' store uses the given port for the whole job.
        const port = nodes.count > 1 ? 0 : options.masterPort;
        server = await openJobStore({ host: options.masterAddr, port, secret }, output);
        return server.port;
      };
      const masterPort = yield* Effect.promise((signal) => nodes.port(this.number, open, signal));
      const { masterAddr, nnodes, node, ranksPerNode, maxRestarts } = options;
      const { runId } = nodes;
      return { node, nnodes, ranksPerNode, masterAddr, masterPort, runId, attempt: this.number, maxRestarts, secret };
    });
  }

  /** The folder for the status records of the ranks. SIGQUIT prints what they are doing. */
  #openStatus(): Effect.Effect<string | undefined, never, Scope.Scope> {
    const { options, nodes, output } = this.job;
    const { command, nnodes, ranksPerNode: ranks } = options;
    const onQuit = () => void this.#report(this.#status?.report(this.#ranks), NONE_CALLED);
    const open = () => {
      this.#status = new AttemptStatus({
        ...{ runId: nodes.runId, node: nodes.node, nnodes, attempt: this.number, ranks, command },
        logs: this.#logFolder,
        onFault: (text) => void output.note(`c10d run: there are no status records: ${text}\n`),
      });
      process.on("SIGQUIT", onQuit);
      const status = this.#status;
      const own = () => status.ranks();
      const answering = new AbortController();
      void nodes.answerStatus(this.number, () => status.answer(), answering.signal);
      const ask = () => nodes.askStatus(this.number);
      const view = this.job.dashboard?.watch({
        ...{ attempt: this.number, records: () => status.records(), started: () => this.#ranks },
        ask: nodes.count > 1 ? ask : undefined,
      });
      const watch = nodes.count > 1 ? new StallWatch({ own, ask, tell: (others) => status.tell(others) }) : undefined;
      const close = () => {
        process.off("SIGQUIT", onQuit);
        answering.abort();
        watch?.[Symbol.dispose]();
        view?.[Symbol.dispose]();
        status[Symbol.dispose]();
      };
      return { folder: status.folder, close };
    };
    return Effect.acquireRelease(Effect.sync(open), ({ close }) => Effect.sync(close)).pipe(
      Effect.map(({ folder }) => folder),
    );
  }

  /** Prints what the ranks were doing, and writes it to the log folder. */
  async #report(report: StatusReport | undefined, otherwise: string): Promise<void> {
    const { output, events } = this.job;
    if (report === undefined || report.text === "") {
      await output.note(otherwise);
      return;
    }
    await Promise.all([
      output.note(`c10d run: ${report.text}`),
      events.emit({ event: "status", attempt: this.number, ranks: report.ranks }),
      this.#status?.log(report),
    ]);
  }

  #openLogs(rank: number): Effect.Effect<Partial<Record<OutputStream, LogFile>>> {
    const folder = this.#logFolder;
    if (folder === undefined) return Effect.succeed({});
    return Effect.promise(async () => {
      const onError = (message: string) => void this.job.output.note(`c10d run: ${message}\n`);
      const streams = this.job.options.logs?.streams ?? [];
      const files = streams.map(async (name) => [name, await LogFile.create(folder, rank, name, onError)] as const);
      return Object.fromEntries(await Promise.all(files));
    });
  }

  get #logFolder(): LogFolder | undefined {
    const { logs } = this.job.options;
    return logs && attemptFolder(logs.folder, this.job.nodes.runId, this.number);
  }

  /** Where the ranks write their flight recorders when their group fails. */
  get #tracesFolder(): string | undefined {
    const folder = this.#logFolder;
    return folder && resolve(folder.base, ...folder.below, "traces");
  }

  /** @throws DistError when the program cannot be started. */
  #spawn(local: number, place: JobPlace, logs: Partial<Record<OutputStream, LogFile>>): RankProcess {
    const { options, output } = this.job;
    const rank = globalRank(local, place);
    const onTerminal = process.stdout.isTTY && process.stderr.isTTY;
    const direct: OutputStream[] = !this.#alone ? [] : process.stderr.isTTY ? ["stdout", "stderr"] : ["stdout"];
    const colourDepth = onTerminal && !this.#alone ? process.stdout.getColorDepth() : 1;
    return new RankProcess({
      rank,
      ranks: options.ranksPerNode,
      command: options.command,
      env: {
        ...process.env,
        ...defaultEnvironment(processEnvironment(), colourDepth, this.#tracesFolder),
        ...options.env,
        ...rankEnvironment(local, place),
      },
      output,
      inherit: options.json ? [] : direct.filter((name) => logs[name] === undefined),
      logs,
      tee: options.tee,
      stdin: rank === 0,
    });
  }

  /** Whether the job has a single rank, whose streams need no prefix. */
  get #alone(): boolean {
    return this.job.nodes.count * this.job.options.ranksPerNode === 1;
  }

  /** Fails when something other than a rank of this node ends the attempt. */
  #endFromOutside(): Effect.Effect<never, Ended> {
    const { options, nodes, signals, deadline } = this.job;
    const { node } = nodes;
    const signalled = Queue.take(signals).pipe(
      Effect.flatMap((signal) => Effect.fail(new Ended({ verdict: { kind: "signal", node, signal } }))),
    );
    const announced = Effect.promise((signal) => nodes.verdict(this.number, signal)).pipe(
      Effect.flatMap((verdict) => Effect.fail(new Ended({ verdict }))),
    );
    const others = Effect.raceFirst(signalled, announced);
    if (!Number.isFinite(deadline)) return others;
    const { timeoutMs } = options;
    return others.pipe(
      Effect.timeoutOrElse({
        duration: Math.max(deadline - performance.now(), 0),
        orElse: () => Effect.fail(new Ended({ verdict: { kind: "timeout", node, timeoutMs } })),
      }),
    );
  }

  /** Ends the attempt on this node: agrees with the other nodes on the cause, stops the ranks and reports. */
  #end(found: Verdict): Effect.Effect<Verdict> {
    return Effect.gen({ self: this }, function* () {
      const { nodes, output, events, signals, dashboard } = this.job;
      dashboard?.freeze();
      const status = this.#atFailure ?? this.#status?.report(this.#ranks);
      // Before the other nodes learn of the end.
      const elsewhere = found.kind === "timeout" ? yield* Effect.promise(() => this.#exchangeRunning()) : [];
      const verdict = yield* Effect.promise(() => nodes.announce(this.number, found));
      const dumped = Effect.promise(() => this.#status?.dump() ?? Promise.resolve());
      yield* dumped.pipe(Effect.raceFirst(Queue.take(signals)));
      const { stopped, killed } = yield* this.#stop(
        verdict.kind === "signal" && verdict.node === nodes.node ? verdict.signal : "SIGTERM",
      );
      yield* Effect.promise(() => nodes.stopped(this.number));
      yield* this.#drain();
      const report = endReport({
        verdict,
        stopped,
        killed,
        node: nodes.count > 1 ? nodes.node : undefined,
        logs: this.#logFolder && join(this.#logFolder.base, ...this.#logFolder.below),
        elsewhere,
      });
      const traces = tracesLine(written(this.#tracesFolder));
      const hasTimedOut = verdict.kind === "timeout";
      dashboard?.report(`${report}${status?.text ?? ""}${traces}`);
      yield* Effect.promise(() =>
        Promise.all([
          output
            .note(report)
            .then(() => this.#report(status, hasTimedOut && this.#status?.folder !== undefined ? NONE_CALLED : ""))
            .then(() => output.note(traces)),
          events.emit({ event: "failed", attempt: this.number, cause: verdict, stopped, killed }),
        ]),
      ).pipe(Effect.raceFirst(Queue.take(signals)));
      return verdict;
    });
  }

  /** What ranks of other nodes are doing that have not ended, if all ranks here have; else tells the other nodes. */
  async #exchangeRunning(): Promise<readonly RankStatus[]> {
    const { nodes } = this.job;
    if (this.#ranks.some((rank) => rank.exit === undefined)) {
      await nodes.leaveStatus(this.number, this.#status?.answer() ?? []);
      return [];
    }
    const others = await nodes.askStatus(this.number);
    return others.filter((status) => !hasEnded(status)).sort((a, b) => a.rank - b.rank);
  }

  /**
   * The failure to report. When the first rank to end blames a peer, that is the next failure of a rank that does not,
   * here or on another node.
   */
  #culprit(firstRank: RankProcess, first: RankExit): Effect.Effect<Verdict> {
    const { nodes } = this.job;
    const failIfCulprit = Effect.fnUntraced(function* (rank: RankProcess) {
      const exit = yield* Effect.promise(() => rank.exited);
      if (!isFailure(exit)) return;
      yield* Effect.promise(() => Promise.race([rank.drained, Bun.sleep(stderrWaitMs)]));
      if (!blamesPeer(rank.stderrTail)) yield* new RankFailed({ rank, exit });
    });
    const others = this.#ranks.filter((rank) => rank !== firstRank);
    const elsewhere = Effect.promise((signal) => nodes.verdict(this.number, signal));
    const here = failIfCulprit(firstRank).pipe(
      Effect.andThen(Effect.forEach(others, failIfCulprit, { concurrency: "unbounded", discard: true })),
      // All ranks here blame a peer, which may be on another node.
      Effect.andThen(nodes.count > 1 ? Effect.never : Effect.void),
      Effect.timeoutOrElse({
        duration: nodes.count > 1 ? culpritNodeWaitMs : culpritWaitMs,
        orElse: () => Effect.void,
      }),
      Effect.map(() => this.#verdictOn(firstRank, first)),
      Effect.catchTag("RankFailed", ({ rank, exit }) => Effect.succeed(this.#verdictOn(rank, exit))),
    );
    return here.pipe(Effect.raceFirst(elsewhere));
  }

  #verdictOn(rank: RankProcess, exit: RankExit): Verdict {
    return {
      kind: "rank",
      node: this.job.nodes.node,
      host: hostname(),
      exit,
      stderrTail: rank.stderrTail,
      stderrSeen: !this.#alone || !process.stderr.isTTY,
    };
  }

  /** Sends `signal` to the running ranks and waits for their end; kills them after the grace period or a SIGINT. */
  #stop(signal: NodeJS.Signals): Effect.Effect<StoppedRanks> {
    return Effect.gen({ self: this }, function* () {
      const running = this.#ranks.filter((rank) => rank.exit === undefined);
      const allEnded = Effect.promise(() => Promise.all(running.map((rank) => rank.exited)));
      this.#signalRanks(signal);
      yield* allEnded.pipe(
        Effect.raceFirst(Effect.sleep(this.job.options.graceMs)),
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
        const signal = yield* Queue.take(this.job.signals);
        if (signal === "SIGINT") return;
        this.#signalRanks(signal);
      }
    });
  }

  #signalRanks(signal: NodeJS.Signals): void {
    for (const rank of this.#ranks) rank.signal(signal === "SIGPIPE" ? "SIGTERM" : signal);
  }

  /** Waits until the output of the ranks is written. A signal ends the wait, in case the output is not read. */
  #drain(): Effect.Effect<void> {
    return Effect.promise(() => Promise.all(this.#ranks.map((rank) => rank.drained))).pipe(
      Effect.raceFirst(Queue.take(this.job.signals)),
      Effect.asVoid,
    );
  }
}

const failIfRankFails = Effect.fnUntraced(function* (rank: RankProcess) {
  const exit = yield* Effect.promise(() => rank.exited);
  if (isFailure(exit)) yield* new RankFailed({ rank, exit });
});

/** The folder, if something was written to it. */
function written(folder: string | undefined): string | undefined {
  return folder !== undefined && existsSync(folder) ? folder : undefined;
}
