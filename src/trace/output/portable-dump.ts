import { PickleTuple, type PickleValue } from "../../pickle/index.ts";
import type { GroupTraces, MemberTrace } from "../analysis/group-traces.ts";
import type { Job } from "../analysis/job.ts";
import { dtypesOf, numel } from "../analysis/signature.ts";
import type { OpState, RankTrace, TraceOp } from "../rank-trace.ts";

/** The format that is written, the newest one of PyTorch. */
const VERSION = "2.10";
const NS_PER_MS = 1e6;

/** Kinds of ops that `torchfrtrace` knows. It stops at any other. */
const known: ReadonlySet<string> = new Set([
  "all_reduce",
  "broadcast",
  "reduce",
  "all_gather",
  "gather",
  "scatter",
  "reduce_scatter",
  "all_to_all",
  "barrier",
]);

/** What `torchfrtrace` compares. A failed op counts as started: it differs from one that has completed. */
const states: { readonly [state in OpState]: string } = {
  scheduled: "scheduled",
  started: "started",
  completed: "completed",
  ended: "completed",
  failed: "started",
};

interface Entry {
  readonly op: TraceOp;
  readonly value: { readonly [key: string]: PickleValue };
}

/**
 * A rank's dump in a form that PyTorch's `torchfrtrace` can compare with those of the others, whoever wrote them:
 * - all groups have their members; PyTorch's Gloo backend records groups without name and members
 * - ops have the same names, sizes and states, whether a Bun or a Python rank called them
 * - what is not known of all ranks is left out: overwritten ops, and ops that some ranks do not record
 * - the messages of a source, destination and tag are a group of their own, since `torchfrtrace` expects all ranks of a
 *   group at each message
 */
export function portableDump(job: Job, trace: RankTrace): PickleValue {
  const config = new Map<string, PickleValue>();
  const entries: Entry[] = [];
  for (const each of job.groups) {
    const member = each.members.get(trace.rank);
    if (member === undefined) continue;
    const { uid, description, ranks } = each.group;
    config.set(uid, groupConfig(uid, description, ranks));
    entries.push(...collectives(each, member));
    for (const op of member.messages) {
      const entry = message(each, op, trace.rank, config);
      if (entry !== undefined) entries.push(entry);
    }
  }
  entries.sort((a, b) => a.op.recordId - b.op.recordId);
  return {
    version: VERSION,
    pg_config: config,
    pg_status: {},
    comm_lib_version: "",
    entries: entries.map(({ value }, i) => ({ ...value, record_id: i, op_id: i + 1 })),
  };
}

function groupConfig(name: string, desc: string, ranks: readonly number[]): PickleValue {
  return { name, desc, ranks: `[${ranks.join(", ")}]` };
}

function collectives({ group, members }: GroupTraces, { collectives: own }: MemberTrace): readonly Entry[] {
  const others = [...members.values()];
  return [...own].flatMap(([seq, op]) => {
    // A rank that has later ones but not this one does not record it, or has lost it.
    const isKnown = others.every(({ collectives: all, last }) => all.has(seq) || seq > last);
    if (!known.has(op.kind) || !isKnown) return [];
    const [inputs, outputs] = sizesOf(op, group.ranks.length);
    const name = `gloo:${op.kind}`;
    return [
      { op, value: { ...entryOf(op, group.uid, group.description, name, inputs, outputs), ...numbers(seq, 0, false) } },
    ];
  });
}

/** One size on each side, as PyTorch's Gloo backend has them. */
function sizesOf({ kind, inputSizes, outputSizes }: TraceOp, ranks: number): readonly [number[][], number[][]] {
  const [input, output] = [numel(inputSizes), numel(outputSizes)];
  if (kind === "barrier") return [[], []];
  if (kind === "all_gather") return [[[input]], [[input * ranks]]];
  // The parts of an uneven one differ: what this rank receives is no size of the collective.
  if (kind === "reduce_scatter") return [[[input]], [[input / ranks]]];
  const one = (isThere: boolean, size: number): number[][] => (isThere ? [[size]] : []);
  return [one(inputSizes.length > 0, input), one(outputSizes.length > 0, output)];
}

function message(
  { group, members }: GroupTraces,
  op: TraceOp,
  rank: number,
  config: Map<string, PickleValue>,
): Entry | undefined {
  if (op.message === undefined) return undefined;
  const { source, destination, tag, number } = op.message;
  const peer = source === rank ? destination : source;
  const isPaired = peer >= 0 && number > 0 && (members.get(peer)?.messages.length ?? 0) > 0;
  if (!isPaired) return undefined;
  const uid = `${group.uid}/p2p/${source}-${destination}/${tag}`;
  const description = `${group.description}: ${source} to ${destination}, tag ${tag}`;
  const pair = [source, destination].sort((a, b) => a - b);
  config.set(uid, groupConfig(uid, description, pair));
  const [from, to] = [pair.indexOf(source), pair.indexOf(destination)];
  const name = op.kind === "send" ? `gloo:send ${from}->${to}` : `gloo:recv ${to}<-${from}`;
  const size = [[numel(op.kind === "send" ? op.inputSizes : op.outputSizes)]];
  const [inputs, outputs] = op.kind === "send" ? [size, []] : [[], size];
  return { op, value: { ...entryOf(op, uid, description, name, inputs, outputs), ...numbers(number, number, true) } };
}

function numbers(collective: number, p2p: number, isP2p: boolean): { readonly [key: string]: PickleValue } {
  return { collective_seq_id: collective, p2p_seq_id: p2p, is_p2p: isP2p };
}

function entryOf(
  op: TraceOp,
  uid: string,
  description: string,
  name: string,
  inputs: readonly (readonly number[])[],
  outputs: readonly (readonly number[])[],
): { readonly [key: string]: PickleValue } {
  const dtypes = dtypesOf(op).slice(0, 1);
  return {
    pg_id: 0,
    process_group: new PickleTuple([uid, description]),
    profiling_name: name,
    time_created_ns: ns(op.createdMs),
    input_sizes: inputs,
    output_sizes: outputs,
    input_dtypes: inputs.length > 0 ? dtypes : [],
    output_dtypes: outputs.length > 0 ? dtypes : [],
    state: states[op.state],
    time_discovered_started_ns: op.startedMs === undefined ? null : ns(op.startedMs),
    time_discovered_completed_ns: op.finishedMs === undefined ? null : ns(op.finishedMs),
    retired: op.state === "completed" || op.state === "ended" || op.state === "failed",
    timeout_ms: Number.isFinite(op.timeoutMs) ? Math.round(op.timeoutMs) : 0,
    frames: op.frames.map(({ name: method, file, line }) => ({ name: method, filename: file, line })),
  };
}

function ns(ms: number): bigint {
  return BigInt(Math.round(ms * NS_PER_MS));
}
