import { hostname } from "node:os";
import { join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
import { OpType } from "../collectives/index.ts";
import { createFoldersIn, replaceOwnFile } from "../files/index.ts";
import { pickle } from "../pickle/index.ts";
import { channelOf, type Dict, entryOf, type Form, framed, withoutRepeats } from "./dump-entry.ts";
import { dumpedGroupCall, type GroupCall } from "./group-calls.ts";
import type { GroupRecord } from "./group-record.ts";
import type { DroppedOp, RecordedOp } from "./recorded-slot.ts";

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
  readonly groupCalls: readonly GroupCall[];
  /** Whether it is dumped because a group has failed, or the rank is going to be ended. */
  readonly isFailure?: boolean;
  /** Id of their world, if it has one. */
  readonly world: string | undefined;
  /** Number of ops recorded so far. */
  readonly recorded: number;
  /** The op whose entry was overwritten last. */
  readonly lastDropped: DroppedOp | undefined;
}

/** A dump as PyTorch's flight recorder writes it, which `torchfrtrace` reads, with keys of our own. */
export function traceDump(
  { ops, groups, groupCalls, isFailure = false, world, recorded, lastDropped }: DumpedRecorder,
  options: DumpOptions,
  form: Form,
): Dict {
  const isNumbered = ({ seq, isMessage, group }: RecordedOp) => seq >= 0 && !isMessage && !group.isCombined;
  const numbered = new Set(ops.filter(isNumbered).map(({ group }) => group));
  // Its seq is -1 while it waits for its turn; where the backend's numbers do not tell the ops apart, or it has none,
  // they are counted here.
  const seqOf = (op: RecordedOp) => (numbered.has(op.group) ? op.seq : op.number);
  const known = [...new Set([...groups, ...ops.map(({ group }) => group)])];
  const dumped = ops.filter((op) => op.opType !== OpType.COALESCED && (op.isMessage || seqOf(op) > 0));
  const ids = new Map(known.map((group, i) => [group, i]));
  const entries = dumped.map((op) => entryOf(op, op.isMessage ? op.number : seqOf(op), ids.get(op.group) ?? 0, form));
  const included = options.includeCollectives === false ? [] : withoutRepeats(entries, dumped);
  const [first] = known;
  const [made] = groupCalls;
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
    ...(options.includeCollectives !== false && {
      entries: included.map((entry) => framed(entry, options.includeStackTraces ?? true)),
    }),
    bun_c10d: {
      version: packageJson.version,
      host: hostname(),
      pid: process.pid,
      world: world ?? null,
      rank: first?.globalRankOf(first.rank) ?? made?.init.globalRank ?? -1,
      // Without any group, the first call is that which makes the default one.
      world_size: (first ?? made?.init)?.globalRanks.length ?? 0,
      backends: Object.fromEntries(known.map((group) => [group.name, Object.values(group.backends).join(",")])),
      time_dumped_ns: Math.round((performance.timeOrigin + performance.now()) * 1e6),
      on_failure: isFailure,
      // Of these, errors have other numbers than the dump.
      counted_groups: known.filter(({ isCombined }) => isCombined).map(({ name }) => name),
      group_calls: groupCalls.map((call) => dumpedGroupCall(call, form, options.includeStackTraces ?? true)),
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
