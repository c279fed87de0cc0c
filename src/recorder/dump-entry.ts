import { isMainThread, threadId } from "node:worker_threads";
import { OpType, opTable } from "../collectives/index.ts";
import { PickleFloat, PickleTuple, type PickleValue } from "../pickle/index.ts";
import type { RecordedOp } from "./recorded-slot.ts";
import { torchBackend, torchOps } from "./torch-names.ts";
import { shapeOf } from "./torch-shape.ts";

/** The two encodings differ in some types. */
export type Form = "json" | "pickle";

export type Dict = Readonly<Record<string, PickleValue | undefined>>;

/** An entry before its stack is added, which costs the most. */
export interface DumpEntry {
  readonly fields: Dict;
  readonly op: RecordedOp;
}

/** The entry of an op. @param id Number of its group in the dump. */
export function entryOf(op: RecordedOp, number: number, id: number, form: Form): DumpEntry {
  const { group, isMessage } = op;
  const channel = isMessage ? channelOf(op) : undefined;
  const [uid, description] = [channel?.uid ?? group.name, channel?.description ?? group.description];
  const { name, inputs, outputs, inputDTypes, outputDTypes } = shapeOf(op);
  const failed = op.state === "failed";
  const isOver = op.timeFinished !== undefined;
  const time = (ms: number | undefined) => (ms === undefined ? (form === "json" ? 0 : null) : Math.round(ms * 1e6));
  const started = op.timeStarted ?? op.timeCreated;
  const fields: Dict = {
    record_id: op.id,
    pg_id: id,
    process_group: form === "json" ? [uid, description] : new PickleTuple([uid, description]),
    collective_seq_id: number,
    p2p_seq_id: isMessage ? number : 0,
    op_id: op.id,
    profiling_name: `${torchBackend(op.backend)}:${channel === undefined ? name : channel.name}`,
    time_created_ns: Math.round(op.timeCreated * 1e6),
    ...(op.timeFinished !== undefined && { duration_ms: float(op.timeFinished - started, form) }),
    input_sizes: inputs,
    input_dtypes: inputDTypes,
    output_sizes: outputs,
    output_dtypes: outputDTypes,
    state: failed ? "completed" : op.state,
    time_discovered_started_ns: time(op.timeStarted),
    time_discovered_completed_ns: time(op.timeFinished),
    retired: isOver,
    timeout_ms: Number.isFinite(op.timeoutMs) ? op.timeoutMs : -1,
    is_p2p: isMessage,
    thread_id: String(threadId),
    thread_name: isMainThread ? "main" : "worker",
    group: group.name,
    api: op.op,
    backend: op.backend,
    reduce_op: op.reduceOp === undefined ? null : String(op.reduceOp),
    root: group.globalRankOf(op.root),
    peer: group.globalRankOf(op.peer),
    tag: op.tag,
    ...(failed && { failed: true, error: op.error ?? "" }),
  };
  return { fields, op };
}

/** An entry with the stack of its call, if that is wanted. */
export function framed({ fields, op }: DumpEntry, hasStack: boolean): Dict {
  if (!hasStack) return fields;
  const frames = op.frames.map(({ name, file, line }) => ({ name: name || "<anonymous>", filename: file, line }));
  return { ...fields, frames };
}

/** The parts of a batch that were submitted as one op have one number: they become one entry. */
export function withoutRepeats(entries: readonly DumpEntry[], ops: readonly RecordedOp[]): readonly DumpEntry[] {
  const merged: DumpEntry[] = [];
  for (const [i, entry] of entries.entries()) {
    const last = merged.at(-1);
    const op = ops[i] as RecordedOp;
    const isSame =
      last !== undefined &&
      !op.isMessage &&
      !last.op.isMessage &&
      last.op.group === op.group &&
      last.fields.collective_seq_id === entry.fields.collective_seq_id;
    if (!isSame) merged.push(entry);
    else merged[merged.length - 1] = { op: last.op, fields: joined(last, entry) };
  }
  return merged;
}

function joined({ fields: a, op }: DumpEntry, { fields: b }: DumpEntry): Dict {
  const both = (key: string) => [...(a[key] as PickleValue[]), ...(b[key] as PickleValue[])];
  const coalesced = op.row === undefined ? undefined : opTable[op.row].coalesced;
  const name = coalesced === undefined || coalesced === "refused" ? undefined : torchOps[coalesced].name;
  return {
    ...a,
    ...(name !== undefined && { profiling_name: `${torchBackend(op.backend)}:${name}` }),
    input_sizes: both("input_sizes"),
    input_dtypes: both("input_dtypes"),
    output_sizes: both("output_sizes"),
    output_dtypes: both("output_dtypes"),
  };
}

/**
 * A message as `torchfrtrace` understands it in groups of more than two ranks: each direction between two ranks, with
 * one tag, is a group of its own.
 */
export function channelOf(op: RecordedOp): {
  readonly uid: string;
  readonly description: string;
  readonly ranks: number[];
  readonly name: string;
} {
  const { group, peer, tag } = op;
  const [own, other] = [group.globalRankOf(group.rank), group.globalRankOf(peer)];
  const isSend = op.opType === OpType.SEND;
  if (other < 0) {
    const uid = `${group.name}/p2p/any-${own}/${tag}`;
    return { uid, description: `${group.description}: any to ${own}, tag ${tag}`, ranks: [own], name: "recv 0<-0" };
  }
  const [source, target] = isSend ? [own, other] : [other, own];
  const ranks = [...new Set([source, target])].sort((a, b) => a - b);
  const [from, to] = [ranks.indexOf(source), ranks.indexOf(target)];
  return {
    uid: `${group.name}/p2p/${source}-${target}/${tag}`,
    description: `${group.description}: ${source} to ${target}, tag ${tag}`,
    ranks,
    name: isSend ? `send ${from}->${to}` : `recv ${to}<-${from}`,
  };
}

function float(value: number, form: Form): PickleValue {
  return form === "json" ? value : new PickleFloat(value);
}
