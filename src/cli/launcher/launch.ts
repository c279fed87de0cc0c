import * as Effect from "effect/Effect";
import * as Queue from "effect/Queue";
import { InvalidArgumentError } from "../../errors/index.ts";
import { isLoopback } from "../../store/tcp/host-address.ts";
import type { Dashboard } from "../dashboard/dashboard.ts";
import { type Job, runAttempt } from "./attempt.ts";
import { signalExitCode } from "./exit-code.ts";
import { incomingSignals } from "./incoming-signals.ts";
import { JobEvents } from "./job-events.ts";
import type { JobOptions } from "./job-options.ts";
import { JobOutput, StdioSink } from "./job-output.ts";
import { openJobStore } from "./job-store.ts";
import { Departures, NodeGroup } from "./node-group.ts";
import { LoneNode, type Nodes } from "./nodes.ts";
import { verdictExitCode } from "./verdict.ts";

/** Runs this node's part of a job; resolves to the exit code of the job. No rank outlives it. */
export function launch(options: JobOptions): Promise<number> {
  return Effect.runPromise(Effect.scoped(runJob(options)));
}

const runJob = Effect.fnUntraced(function* (options: JobOptions) {
  const startedAt = performance.now();
  const signals = yield* incomingSignals;
  // The reader of the output has exited: the job ends like a program that gets SIGPIPE.
  const sink = (stream: NodeJS.WriteStream) => new StdioSink(stream, () => Queue.offerUnsafe(signals, "SIGPIPE"));
  const [stdout, stderr] = [sink(process.stdout), sink(process.stderr)];
  const output = new JobOutput(
    { stdout: options.json ? stderr : stdout, stderr },
    { prefix: options.prefix && options.nnodes * options.ranksPerNode > 1 },
  );
  const events = new JobEvents(options.json ? stdout : undefined);
  const deadline = startedAt + options.timeoutMs;
  const dashboard = yield* openDashboard(options, output);
  const nodes = yield* meetNodes(options, output).pipe(Effect.raceFirst(Queue.take(signals)));
  if (typeof nodes === "string") return signalExitCode(nodes);
  const { command, nnodes, ranksPerNode } = options;
  const worldSize = nodes.count * ranksPerNode;
  dashboard?.start({ id: nodes.runId, command, worldSize, node: nodes.node, nnodes, startedAt: Date.now() });
  const job: Job = { options, nodes, output, events, signals, deadline, dashboard };
  for (let attempt = 0; ; attempt++) {
    const verdict = yield* Effect.scoped(runAttempt(job, attempt)).pipe(
      Effect.tapCause(() => Effect.promise(() => announceCrash(nodes, attempt))),
    );
    if (verdict?.kind === "rank" && attempt < options.maxRestarts) {
      yield* Effect.promise(() => reportRestart(job, attempt + 1));
      continue;
    }
    const exitCode = verdict === undefined ? 0 : verdictExitCode(verdict);
    yield* Effect.promise(() => Promise.resolve(dashboard?.end(exitCode)));
    // Waits until the other nodes know the verdict, too.
    yield* Effect.promise(() => nodes.leave());
    const elapsedMs = performance.now() - startedAt;
    yield* Effect.promise(() => events.emit({ event: "finished", exitCode, attempts: attempt + 1, elapsedMs })).pipe(
      Effect.raceFirst(Queue.take(signals)),
    );
    return exitCode;
  }
});

/** Before ranks start, so that a port in use is an error; undefined if it is not wanted. */
const openDashboard = Effect.fnUntraced(function* ({ dashboardPort: port }: JobOptions, output: JobOutput) {
  if (port === undefined) return undefined;
  const open = async (): Promise<Dashboard> => {
    const { Dashboard } = await import("../dashboard/dashboard.ts");
    const onFault = (text: string) => void output.note(`c10d run: the dashboard: ${text}\n`);
    const dashboard = await Dashboard.open({ port, onFault });
    await output.note(`c10d run: dashboard: ${dashboard.url}\n`);
    return dashboard;
  };
  return yield* Effect.acquireRelease(Effect.promise(open), (dashboard) => Effect.promise(() => dashboard.close()));
});

/** The nodes of the job, once all have joined; on node 0 their store ends with the scope. */
const meetNodes = Effect.fnUntraced(function* (options: JobOptions, output: JobOutput) {
  const { nnodes, node, masterAddr: host, masterPort: port, secret = null } = options;
  if (nnodes === 1) return new LoneNode(options.runId ?? crypto.randomUUID()) satisfies Nodes;
  const departures = new Departures();
  if (node === 0) {
    const server = yield* Effect.acquireRelease(
      Effect.promise(() => openJobStore({ host, port, secret }, output, (peer) => departures.onLeave(peer))),
      (store) => Effect.promise(() => store.close()),
    );
    if (isLoopback(server.address) && !isLoopback(host) && host !== "localhost") {
      throw new InvalidArgumentError(
        `--rdzv-endpoint: on this host ${host} is ${server.address}, which other nodes cannot reach. Give an IP address of the network between them.`,
        { argument: "rdzv-endpoint" },
      );
    }
  }
  const { ranksPerNode, maxRestarts, runId, joinTimeoutMs, lostAfterMs } = options;
  return yield* Effect.promise((signal) =>
    NodeGroup.join({
      ...{ node, count: nnodes, ranksPerNode, maxRestarts, runId },
      ...{ host, port, secret, joinTimeoutMs, lostAfterMs, signal, departures },
    }),
  );
});

/** Ends the job on the other nodes when this launcher fails. */
async function announceCrash(nodes: Nodes, attempt: number): Promise<void> {
  await nodes.announce(attempt, { kind: "node", node: nodes.node, reason: "its launcher failed" });
  await nodes.leave();
}

async function reportRestart({ options, output, events }: Job, attempt: number): Promise<void> {
  const { maxRestarts } = options;
  await output.note(`c10d run: starting all ranks again (restart ${attempt} of ${maxRestarts})\n`);
  await events.emit({ event: "restarted", attempt, maxRestarts });
}
