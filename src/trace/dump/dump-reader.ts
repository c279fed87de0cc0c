import { messageOf } from "../../errors/index.ts";
import { unpickle } from "../../pickle/index.ts";
import type { DumpedGroup, RankTrace } from "../rank-trace.ts";
import { EntryReader } from "./dump-entry.ts";
import { MAX_GROUP_CALLS, readGroupCall } from "./dump-group-call.ts";
import { countOf, dumpError, Fields, integerOf, wrongValue } from "./fields.ts";
import { requireJsonWithin } from "./json-limits.ts";

const MAX_ENTRIES = 1_000_000;
const MAX_GROUPS = 100_000;
/** As many as a list of ranks as text may hold. */
const MAX_RANKS = 1_000_000;
/** First bytes of JSON values but numbers, and of a byte order mark: a pickle starts with none of them. */
const JSON_STARTS = '{["\xef';
/** First byte of a pickle of protocol 2 or newer. */
const PROTO = 0x80;
const SPACE = 0x20;
const DAY_MS = 86_400_000;

/** Where a dump comes from. */
export interface DumpSource {
  readonly file: string;
  /** When the file was written, in milliseconds since the Unix epoch. */
  readonly writtenMs: number;
}

/**
 * Reads a dump of a flight recorder: PyTorch's pickle or JSON, formats 2.0 to 2.10, or what this package writes.
 * @throws DistError with code INVALID_DUMP when it is none.
 */
export function readDump(bytes: Uint8Array, source: DumpSource): RankTrace {
  const top = new Fields(dataOf(bytes, source.file), "");
  const version = top.text("version");
  if (!/^2\.\d{1,3}$/.test(version))
    throw dumpError(`its format is ${JSON.stringify(version.slice(0, 20))}; those from 2.0 on are known`);
  const own = top.has("bun_c10d") ? top.fields("bun_c10d") : undefined;
  const rank = own?.optionalInteger("rank") ?? rankOfName(source.file);
  const worldSize = own?.optionalInteger("world_size");
  for (const [what, number] of Object.entries({ "its rank": rank, "its world size": worldSize ?? 0 })) {
    if (number < 0 || number > MAX_RANKS) throw dumpError(`${what} is ${number}; up to ${MAX_RANKS} are known`);
  }
  const groups = groupsOf(top);
  const reader = new EntryReader(rank, groups);
  const ops = top.list("entries", MAX_ENTRIES).map((entry, i) => reader.read(entry, `entries[${i}]`));
  const first = ops[0]?.recordId ?? 0;
  const last = ops.at(-1)?.recordId ?? -1;
  const recorded = ops.length > 0 ? last + 1 : enqueued(top);
  return {
    file: source.file,
    rank,
    version,
    writer: own === undefined ? "pytorch" : "bun-c10d",
    host: own?.optionalText("host"),
    worldSize,
    world: own?.optionalText("world"),
    groups,
    descriptions: reader.descriptions,
    ops,
    groupCalls: own?.has("group_calls") === true ? groupCallsOf(own) : undefined,
    countedGroups: own?.list("counted_groups", MAX_GROUPS).map(String) ?? [],
    isFailure: own?.flag("on_failure") ?? false,
    dropped: own?.count("dropped", 0) ?? first,
    isPartial: own === undefined ? ops.length + first < recorded : own.flag("only_active") || !top.has("entries"),
    dumpedMs: own?.time("time_dumped_ns") ?? guessedTime(ops, source.writtenMs),
  };
}

function groupCallsOf(own: Fields): RankTrace["groupCalls"] {
  return own
    .list("group_calls", MAX_GROUP_CALLS)
    .map((each, i) => readGroupCall(new Fields(each, own.pathOf(`group_calls[${i}]`)), ranksOf));
}

/** JSON or a pickle, by its first byte; where that does not tell, by the name of the file. */
function dataOf(bytes: Uint8Array, file: string): unknown {
  const first = bytes.find((byte) => byte > SPACE);
  if (first === undefined) throw dumpError("it is empty");
  const isJson = JSON_STARTS.includes(String.fromCharCode(first)) || (file.endsWith(".json") && first !== PROTO);
  if (isJson) requireJsonWithin(bytes);
  try {
    return isJson ? JSON.parse(new TextDecoder().decode(bytes)) : unpickle(bytes);
  } catch (error) {
    if (!isJson) throw dumpError(`${messageOf(error)}${beginning(bytes)}`, error);
    throw dumpError(`it is broken JSON: ${messageOf(error).replace(/^JSON Parse error: /, "")}`, error);
  }
}

/** How a text begins: what was saved may be the answer of a server that has refused the request. */
function beginning(bytes: Uint8Array): string {
  const text = new TextDecoder("latin1").decode(bytes.subarray(0, 40));
  return /^[\x20-\x7e\s]+$/.test(text) ? ` (it begins with ${JSON.stringify(text)})` : "";
}

function rankOfName(file: string): number {
  const digits = /(\d+)(?:\.(?:json|pickle|pkl))?$/.exec(file)?.[1];
  if (digits === undefined) throw dumpError("its name does not end with a rank, as in rank_0 or rank_0.json");
  return Number(digits);
}

/** Without those that a dump of this package adds: one for each source, destination and tag of messages. */
function groupsOf(top: Fields): ReadonlyMap<string, DumpedGroup> {
  if (!top.has("pg_config")) return new Map();
  const all = top.fields("pg_config");
  return new Map(
    all.names(MAX_GROUPS).flatMap((uid) => {
      const config = all.fields(uid);
      const ranks = ranksOf(config.raw("ranks"), `${all.pathOf(uid)}.ranks`);
      // PyTorch's Gloo backend records its groups before it knows their names.
      return uid === "" || uid.includes("/p2p/")
        ? []
        : [[uid, { uid, description: config.text("desc", ""), ranks }] as const];
    }),
  );
}

/** A list of ranks, or its text in Python, which is "" or "[]" for all ranks. */
function ranksOf(value: unknown, path: string): readonly number[] {
  const items = typeof value === "string" ? textItems(value, path) : value;
  if (!Array.isArray(items)) throw wrongValue(path, "a list of ranks", value);
  if (items.length > MAX_RANKS) throw dumpError(`${path} has ${items.length} ranks`);
  return items.map((rank, i) => {
    const known = countOf(rank, `${path}[${i}]`);
    if (known <= MAX_RANKS) return known;
    throw dumpError(`${path}[${i}] is ${known}; ranks up to ${MAX_RANKS} are known`);
  });
}

function textItems(text: string, path: string): readonly number[] {
  const list = /^\s*\[([\d,\s]*)\]\s*$/.exec(text)?.[1];
  if (list === undefined && text.trim() !== "") throw wrongValue(path, "a list of ranks", text);
  return (list ?? "").split(",").flatMap((rank) => (rank.trim() === "" ? [] : [Number(rank)]));
}

/** How many ops the groups have had, by their status: a dump without entries may be one of active ops only. */
function enqueued(top: Fields): number {
  if (!top.has("pg_status")) return 0;
  const status = top.fields("pg_status");
  return status.names(MAX_GROUPS).reduce((sum, id) => {
    const group = status.fields(id);
    const value = group.raw("last_enqueued_collective") ?? 0;
    // In JSON it is a string.
    const count = typeof value === "string" && /^-?\d{1,15}$/.test(value) ? Number(value) : value;
    return sum + Math.max(0, integerOf(count, group.pathOf("last_enqueued_collective")));
  }, 0);
}

/** The time of the file, unless it was copied long after; then that of the last thing that it records. */
function guessedTime(ops: RankTrace["ops"], writtenMs: number): number {
  const latest = ops.reduce((time, { createdMs, finishedMs }) => Math.max(time, createdMs, finishedMs ?? 0), 0);
  return writtenMs >= latest && (latest === 0 || writtenMs - latest < DAY_MS) ? writtenMs : latest;
}
