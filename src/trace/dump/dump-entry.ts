import { opKind, profilingName } from "../op-kind.ts";
import type { DumpedGroup, MessageSide, OpState, TraceFrame, TraceOp } from "../rank-trace.ts";
import { countOf, dumpError, Fields, listOf, wrongValue } from "./fields.ts";

const MAX_TENSORS = 100_000;
const MAX_DIMENSIONS = 64;
const MAX_FRAMES = 1000;

/** Reads entries of one dump. */
export class EntryReader {
  readonly #groups: ReadonlyMap<string, DumpedGroup>;
  readonly #rank: number;
  /** Descriptions of groups by uid, as the entries have them. */
  readonly descriptions = new Map<string, string>();
  /** Frames by the list that they are read from: a pickle refers to one list for many ops. */
  readonly #frames = new Map<unknown, readonly TraceFrame[]>();

  constructor(rank: number, groups: ReadonlyMap<string, DumpedGroup>) {
    this.#rank = rank;
    this.#groups = groups;
  }

  /** @throws DistError for an entry that is none. */
  read(value: unknown, path: string): TraceOp {
    const fields = new Fields(value, path);
    const { backend, op, ranks } = profilingName(fields.text("profiling_name"));
    if (op === "") throw dumpError(`${fields.pathOf("profiling_name")} names no op`);
    const [uid, description] = groupOf(fields);
    this.descriptions.set(uid, description);
    const kind = opKind(op);
    const isMessage = kind === "send" || kind === "recv";
    const api = fields.optionalText("api");
    // The sizes of objects are not recorded; those that are there are for torchfrtrace.
    const tensors = api?.endsWith("Object") === true ? undefined : fields;
    return {
      recordId: fields.count("record_id"),
      group: fields.text("group", uid),
      name: op,
      kind,
      api,
      // Up to version 2.1 there is one number for both.
      seq: fields.has("collective_seq_id") ? fields.count("collective_seq_id") : fields.count("seq_id", -1),
      message: isMessage ? this.#message(fields, uid, kind, ranks) : undefined,
      inputSizes: sizesOf(tensors, "input_sizes"),
      outputSizes: sizesOf(tensors, "output_sizes"),
      inputDtypes: textsOf(tensors, "input_dtypes"),
      outputDtypes: textsOf(tensors, "output_dtypes"),
      reduceOp: fields.optionalText("reduce_op"),
      root: rankOrNone(fields.optionalInteger("root")),
      backend: fields.text("backend", backend),
      state: stateOf(fields, backend),
      error: fields.optionalText("error"),
      createdMs: fields.time("time_created_ns") ?? 0,
      startedMs: fields.time("time_discovered_started_ns"),
      finishedMs: finishedMs(fields),
      timeoutMs: timeoutMs(fields),
      frames: this.#framesOf(fields),
    };
  }

  /** In a dump of this package, a message is an op of a group that holds only its source and destination. */
  #message(fields: Fields, uid: string, kind: string, ranks: Partial<MessageSide> | undefined): MessageSide {
    const members = this.#groups.get(uid)?.ranks;
    const global = (rank: number | undefined): number => (rank === undefined ? -1 : (members?.[rank] ?? rank));
    const peer = fields.optionalInteger("peer");
    const named = kind === "send" ? ranks?.destination : ranks?.source;
    const other = peer ?? global(named);
    const isChannel = fields.has("group") && fields.text("group") !== uid;
    return {
      source: kind === "send" ? this.#rank : other,
      destination: kind === "send" ? other : this.#rank,
      tag: fields.integer("tag", 0),
      number: isChannel ? fields.count("p2p_seq_id", 0) : 0,
    };
  }

  #framesOf(fields: Fields): readonly TraceFrame[] {
    const value = fields.raw("frames");
    if (value === undefined || value === null) return [];
    const known = this.#frames.get(value);
    if (known !== undefined) return known;
    const frames = framesOf(fields);
    this.#frames.set(value, frames);
    return frames;
  }
}

/** The uid and description of an entry's group; in version 2.0 there is only a local id. */
function groupOf(fields: Fields): readonly [uid: string, description: string] {
  const value = fields.raw("process_group");
  if (value === undefined || value === null) return [String(fields.integer("pg_id", 0)), ""];
  if (typeof value === "string") return [value, ""];
  const [uid, description = ""] = listOf(value, fields.pathOf("process_group"), 2);
  if (typeof uid === "string" && typeof description === "string") return [uid, description];
  throw dumpError(`${fields.pathOf("process_group")} must be the name of a group and its description`);
}

function stateOf(fields: Fields, backend: string): OpState {
  if (fields.flag("failed")) return "failed";
  const state = fields.text("state");
  if (state !== "scheduled" && state !== "started" && state !== "completed") {
    throw wrongValue(fields.pathOf("state"), "scheduled, started or completed", state);
  }
  const isRetired = fields.flag("retired");
  // PyTorch's Gloo backend never says completed; it retires ops that have completed or failed.
  return backend === "gloo" && state !== "completed" && isRetired ? "ended" : state;
}

function finishedMs(fields: Fields): number | undefined {
  const finished = fields.time("time_discovered_completed_ns");
  const duration = fields.optionalNumber("duration_ms");
  const created = fields.time("time_created_ns");
  if (finished !== undefined || duration === undefined || created === undefined) return finished;
  const started = fields.time("time_discovered_started_ns") ?? created;
  return duration >= 0 ? started + duration : undefined;
}

/** The stack of a call. */
export function framesOf(fields: Fields): readonly TraceFrame[] {
  const path = fields.pathOf("frames");
  return fields.list("frames", MAX_FRAMES).map((each, i) => {
    const frame = new Fields(each, `${path}[${i}]`);
    return { name: frame.text("name", ""), file: frame.text("filename"), line: frame.integer("line", 0) };
  });
}

/** Infinity for none. */
export function timeoutMs(fields: Fields): number {
  const value = fields.optionalNumber("timeout_ms") ?? 0;
  return value > 0 ? value : Number.POSITIVE_INFINITY;
}

function rankOrNone(rank: number | undefined): number | undefined {
  return rank === undefined || rank < 0 ? undefined : rank;
}

function sizesOf(fields: Fields | undefined, name: string): readonly (readonly number[])[] {
  if (fields === undefined) return [];
  const path = fields.pathOf(name);
  return fields
    .list(name, MAX_TENSORS)
    .map((sizes, i) => listOf(sizes, `${path}[${i}]`, MAX_DIMENSIONS).map((size) => countOf(size, `${path}[${i}]`)));
}

function textsOf(fields: Fields | undefined, name: string): readonly string[] {
  if (fields === undefined) return [];
  return fields.list(name, MAX_TENSORS).map((text, i) => {
    if (typeof text === "string") return text;
    throw wrongValue(`${fields.pathOf(name)}[${i}]`, "a string", text);
  });
}
