import { hostname } from "node:os";
import { join } from "node:path";
import { isMainThread, threadId } from "node:worker_threads";
import packageJson from "../../package.json" with { type: "json" };
import { OpType, opTable } from "../collectives/index.ts";
import { createFoldersIn, replaceOwnFile } from "../files/index.ts";
import { PickleFloat, PickleTuple, type PickleValue, pickle } from "../pickle/index.ts";
import { dtypes } from "../tensor/index.ts";
import type { GroupRecord } from "./group-record.ts";
import type { DroppedOp, RecordedOp } from "./recorded-slot.ts";
import { type SizeForm, torchBackend, torchObjectOps, torchOps, unequalReduceScatter } from "./torch-names.ts";
import type { RecordedTensor } from "./trace-entry.ts";

/** Format version of PyTorch's dumps that these follow. */
const FORMAT = "2.10";

/** Options of `dumpTrace()`. c10d: those of `_dump_nccl_trace`. */
export interface DumpOptions {
  /** Whether to include the ops; `true` by default. Without them, only the groups are dumped. */
  readonly includeCollectives?: boolean;
  /** Whether each op has the stack of its call; `true` by default. */
  readonly includeStackTraces?: boolean;
  /** Whether to leave out ops that have ended; `false` by default. */
  readonly onlyActive?: boolean;
}

/** What is dumped. */
export interface DumpedRecorder {
  /** Oldest first. */
  readonly ops: readonly RecordedOp[];
  readonly groups: Iterable<GroupRecord>;
  /** Id of their world, if it has one. */
  readonly world: string | undefined;
  /** Number of ops recorded so far. */
  readonly recorded: number;
  /** The op whose entry was overwritten last. */
  readonly lastDropped: DroppedOp | undefined;
}

/** The two encodings differ in some types. */
type Form = "json" | "pickle";

type Dict = Readonly<Record<string, PickleValue | undefined>>;

/** A dump as PyTorch's flight recorder writes it, which `torchfrtrace` reads, with keys of our own. */
export function traceDump(
  { ops, groups, world, recorded, lastDropped }: DumpedRecorder,
  options: DumpOptions,
  form: Form,
): Dict {
  const numbered = new Set(ops.filter(({ seq, isMessage }) => seq >= 0 && !isMessage).map(({ group }) => group));
  // Its seq is -1 while it waits for its turn; if its backend does not number ops at all, they are counted here.
  const seqOf = (op: RecordedOp) => (numbered.has(op.group) ? op.seq : op.number);
  const known = [...new Set([...groups, ...ops.map(({ group }) => group)])];
  const dumped = ops.filter((op) => op.opType !== OpType.COALESCED && (op.isMessage || seqOf(op) > 0));
  const ids = new Map(known.map((group, i) => [group, i]));
  const entries = dumped.map((op) => entryOf(op, op.isMessage ? op.number : seqOf(op), ids.get(op.group) ?? 0, form));
  const included = options.includeCollectives === false ? [] : withoutRepeats(entries, dumped);
  const [first] = known;
  return {
    version: FORMAT,
    pg_config: Object.fromEntries([
      ...known.map((group) => [group.name, configOf(group.name, group.description, group.globalRanks)]),
      ...dumped.flatMap((op) => {
        if (!op.isMessage) return [];
        const { uid, description, ranks } = channelOf(op);
        return [[uid, configOf(uid, description, ranks)]];
      }),
    ]),
    pg_status: Object.fromEntries(known.map((group, i) => [String(i), statusOf(group, dumped, seqOf, form)])),
    nccl_comm_state: {},
    comm_lib_version: "",
    ...(options.includeCollectives !== false && { entries: included.map((entry) => framed(entry, options)) }),
    bun_c10d: {
      version: packageJson.version,
      host: hostname(),
      pid: process.pid,
      world: world ?? null,
      rank: first?.globalRankOf(first.rank) ?? -1,
      world_size: first?.globalRanks.length ?? 0,
      backends: Object.fromEntries(known.map((group) => [group.name, Object.values(group.backends).join(",")])),
      time_dumped_ns: Math.round((performance.timeOrigin + performance.now()) * 1e6),
      only_active: options.onlyActive === true,
      recorded,
      dropped: lastDropped === undefined ? 0 : lastDropped.id + 1,
      last_dropped:
        lastDropped === undefined
          ? null
          : { record_id: lastDropped.id, api: lastDropped.op, seq: lastDropped.seq, group: lastDropped.group },
      waiting: ops.filter(
        (op) => !op.isMessage && seqOf(op) <= 0 && op.error === undefined && op.timeFinished === undefined,
      ).length,
    },
  };
}

/** The same as a pickle. */
export function pickledDump(recorder: DumpedRecorder, options: DumpOptions): Uint8Array<ArrayBuffer> {
  return pickle(traceDump(recorder, options, "pickle"));
}

/** Where dumps are written: JSON in a folder, pickles at a prefix to which the rank is appended. */
export interface DumpPlaces {
  readonly folder: string | undefined;
  readonly prefix: string | undefined;
  readonly globalRank: number;
}

/** Writes a dump to each place; returns the paths. */
export function writeDumps(recorder: DumpedRecorder, { folder, prefix, globalRank }: DumpPlaces): readonly string[] {
  const paths: string[] = [];
  if (folder !== undefined) {
    const path = join(createFoldersIn(folder), `trace_rank_${globalRank}.json`);
    replaceOwnFile(path, JSON.stringify(traceDump(recorder, {}, "json")));
    paths.push(path);
  }
  if (prefix !== undefined) {
    const path = `${prefix}${globalRank}`;
    replaceOwnFile(path, pickledDump(recorder, {}));
    paths.push(path);
  }
  return paths;
}

/** An entry before its stack is added, which costs the most. */
interface DumpEntry {
  readonly fields: Dict;
  readonly op: RecordedOp;
}

function entryOf(op: RecordedOp, number: number, id: number, form: Form): DumpEntry {
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

function framed({ fields, op }: DumpEntry, { includeStackTraces = true }: DumpOptions): Dict {
  if (!includeStackTraces) return fields;
  const frames = op.frames.map(({ name, file, line }) => ({ name: name || "<anonymous>", filename: file, line }));
  return { ...fields, frames };
}

/** The parts of a batch that were submitted as one op have one number: they become one entry. */
function withoutRepeats(entries: readonly DumpEntry[], ops: readonly RecordedOp[]): readonly DumpEntry[] {
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

interface OpShape {
  readonly name: string;
  readonly inputs: readonly number[][];
  readonly outputs: readonly number[][];
  readonly inputDTypes: readonly string[];
  readonly outputDTypes: readonly string[];
}

function shapeOf(op: RecordedOp): OpShape {
  const { row, inputs, outputs } = op;
  if (row === undefined || row === "refused") {
    const name = torchObjectOps[op.op] ?? op.op;
    // It reads the first size of an all-gather.
    const sizes = name === "all_gather" ? [[0]] : [];
    const bytes = sizes.map(() => dtypes.uint8.scalarType);
    return { name, inputs: sizes, outputs: sizes, inputDTypes: bytes, outputDTypes: bytes };
  }
  const isUnequal = row === "reduceScatter" && new Set(inputs.map(({ length }) => length)).size > 1;
  const torch = isUnequal ? unequalReduceScatter : torchOps[row];
  const isRead = row === "allGather" || row === "reduceScatter" || row.endsWith("Coalesced");
  const written = isUnequal ? [] : sizesOf(outputs, torch.outputs, isRead);
  const read = sizesOf(inputs, torch.inputs, isRead);
  return {
    name: torch.name,
    inputs: read,
    outputs: written,
    inputDTypes: dtypesOf(inputs, read.length),
    outputDTypes: isUnequal ? dtypesOf(outputs, 1) : dtypesOf(outputs, written.length),
  };
}

function sizesOf(tensors: readonly RecordedTensor[], form: SizeForm, isRead: boolean): number[][] {
  if (tensors.length === 0) return isRead ? [[0]] : [];
  if (form === "each") return tensors.map(({ length }) => [length]);
  return [[tensors.reduce((sum, { length }) => sum + length, 0)]];
}

function dtypesOf([first]: readonly RecordedTensor[], count: number): string[] {
  return Array.from({ length: count }, () => dtypes[first?.dtype ?? "uint8"].scalarType);
}

/**
 * A message as `torchfrtrace` understands it in groups of more than two ranks: each direction between two ranks, with
 * one tag, is a group of its own.
 */
function channelOf(op: RecordedOp): {
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

/** Its reader takes the ranks as a Python list in a string. */
function configOf(name: string, desc: string, ranks: readonly number[]): Dict {
  return { name, desc, ranks: `[${ranks.join(", ")}]` };
}

function statusOf(group: GroupRecord, ops: readonly RecordedOp[], seqOf: (op: RecordedOp) => number, form: Form): Dict {
  const own = ops.filter((op) => op.group === group && !op.isMessage);
  const last = (isIn: (op: RecordedOp) => boolean) => {
    const number = Math.max(-1, ...own.filter(isIn).map(seqOf));
    return form === "json" ? String(number) : number;
  };
  return {
    last_enqueued_collective: last(() => true),
    last_started_collective: last(({ state }) => state !== "scheduled"),
    last_completed_collective: last(({ state }) => state === "completed"),
  };
}

function float(value: number, form: Form): PickleValue {
  return form === "json" ? value : new PickleFloat(value);
}
