import type { TraceGroup } from "../analysis/group-traces.ts";
import type { Job } from "../analysis/job.ts";
import { dtypesOf, numel } from "../analysis/signature.ts";
import { callSiteOf, hasEnded, type RankTrace, type TraceOp } from "../rank-trace.ts";
import { groupText } from "../text/op-text.ts";
import { groupArgs, ProcessEvents, type TraceEvent, type TraceSpan } from "./chrome-trace.ts";

/** A trace in the form of Kineto, PyTorch's profiler. */
export interface KinetoTrace {
  readonly schemaVersion: 1;
  readonly displayTimeUnit: "ms";
  readonly baseTimeNanoseconds: number;
  readonly distributedInfo: object;
  readonly traceEvents: readonly TraceEvent[];
}

/** Names of ops in Kineto, where they differ from those of the recorder. */
const kinetoNames: Readonly<Record<string, string>> = {
  all_reduce: "allreduce",
  all_gather: "allgather",
  _all_gather_base: "_allgather_base",
};

const NS_PER_MS = 1e6;

/** The ops of some ranks as a timeline: a process per rank, a thread per group, times by the clock of the first rank. */
export function kinetoTrace(job: Job, ranks: readonly number[]): KinetoTrace {
  const traces = job.traces.filter(({ rank }) => ranks.includes(rank));
  const base = Math.floor(
    traces.reduce(
      (least, { rank, ops }) => ops.reduce((time, op) => Math.min(time, job.commonTime(rank, op.createdMs)), least),
      Number.POSITIVE_INFINITY,
    ),
  );
  const baseMs = Number.isFinite(base) ? base : 0;
  return {
    schemaVersion: 1,
    displayTimeUnit: "ms",
    baseTimeNanoseconds: baseMs * NS_PER_MS,
    distributedInfo: distributedInfo(job, traces),
    traceEvents: traces.flatMap((trace) => eventsOf(trace, job, baseMs)),
  };
}

function distributedInfo(job: Job, traces: readonly RankTrace[]): object {
  const [first] = traces;
  const own = job.groups.filter(({ members }) => first !== undefined && members.has(first.rank));
  return {
    backend: first?.ops[0]?.backend ?? "",
    rank: first?.rank ?? 0,
    world_size: worldSize(job),
    pg_count: own.length,
    pg_config: own.map(({ group }) => ({
      pg_name: group.uid,
      pg_desc: group.description,
      pg_size: group.ranks.length,
      ranks: group.ranks,
    })),
  };
}

function worldSize(job: Job): number {
  const ranks = job.groups.flatMap(({ group }) => group.ranks.at(-1) ?? 0);
  return Math.max(...ranks, ...job.traces.map(({ rank, worldSize: known = 0 }) => Math.max(rank, known - 1)), 0) + 1;
}

function eventsOf(trace: RankTrace, job: Job, baseMs: number): readonly TraceEvent[] {
  const { rank, host } = trace;
  const process = new ProcessEvents(rank, host === undefined ? `rank ${rank}` : `rank ${rank} (${host})`);
  const spanOf = (op: TraceOp, group: TraceGroup): TraceSpan => ({
    name: eventName(op),
    start: job.commonTime(rank, op.createdMs) - baseMs,
    duration: endOf(op, trace) - op.createdMs,
    args: argsOf(op, trace, group),
  });
  for (const { group, members } of job.groups) {
    const own = members.has(rank) ? trace.ops : [];
    const ops = own.filter((op) => op.group === group.uid && op.kind !== "coalesced");
    process.addRow(
      groupText(group),
      ops.map((op) => spanOf(op, group)),
    );
  }
  return process.events;
}

/** What is in flight lasts until the dump. Of what is over at an unknown time only the start is shown. */
function endOf(op: TraceOp, trace: RankTrace): number {
  return op.finishedMs ?? (hasEnded(op) ? op.createdMs : trace.dumpedMs);
}

function eventName({ backend, name }: TraceOp): string {
  return backend === undefined || backend === "" ? name : `${backend}:${name}`;
}

/** With the names that Holistic Trace Analysis reads. */
function argsOf(op: TraceOp, { rank }: RankTrace, group: TraceGroup): Readonly<Record<string, unknown>> {
  const site = callSiteOf(op);
  return {
    "Collective name": kinetoNames[op.name] ?? op.name,
    "In msg nelems": numel(op.inputSizes),
    "Out msg nelems": numel(op.outputSizes),
    dtype: dtypesOf(op)[0] ?? "",
    "In split size": "[]",
    "Out split size": "[]",
    ...groupArgs(group),
    Rank: rank,
    Seq: op.seq,
    State: op.state,
    ...(op.message !== undefined && {
      "Src Rank": op.message.source,
      "Dst Rank": op.message.destination,
      Tag: op.message.tag,
    }),
    ...(op.reduceOp !== undefined && { "Reduce op": op.reduceOp }),
    ...(op.root !== undefined && { Root: op.root }),
    ...(op.error !== undefined && { Error: op.error }),
    ...(site !== undefined && { "Call site": `${site.file}:${site.line}` }),
  };
}
