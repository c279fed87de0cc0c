import { DEFAULT_GROUP } from "../../errors/index.ts";
import { opText, type RankRecord, type RecordedOp } from "../../status/index.ts";
import { phasesOf, phaseText } from "../ranks/rank-phases.ts";
import { hasEnded } from "../ranks/rank-row.ts";
import type { OpView } from "./page/snapshot.ts";

/** Maximum number of changes that are kept for pages that connect later. */
const MAX_KEPT = 20_000;
/** Maximum number of ops in one message. */
const MAX_SENT = 3_000;

/** How far one has read the log. */
export interface Reader {
  /** Number of changes that it has got or will not get. */
  cursor: number;
  /** How many of them it has not got. */
  omitted: number;
}

/** What a reader gets. */
export interface LogPart {
  readonly ops: readonly OpView[];
  /** Whether changes before these are missing. `ops` begins with all ops that were pending before it, then. */
  readonly hasGap: boolean;
}

/** What was seen of a record at a look. */
interface Look {
  readonly at: number;
  readonly ops: ReadonlyMap<number, RecordedOp>;
}

/** What happened to the ops of all ranks, as far as the looks at their records have shown it. */
export class OpLog {
  readonly #changes: OpView[] = [];
  /** Number of changes that are no longer kept. */
  #dropped = 0;
  /** The last look at each record. */
  readonly #seen = new Map<string, Look>();
  /** What each rank was making or closing at the last look, by record and id. */
  readonly #phases = new Map<string, ReadonlyMap<string, OpView>>();
  /** Ops that are pending, by id. */
  readonly #pending = new Map<string, OpView>();
  readonly #newest = new Map<string, number>();
  #unseen = 0;

  /** Number of changes so far. */
  get end(): number {
    return this.#dropped + this.#changes.length;
  }

  /** Number of ops that began and ended between two looks. */
  get unseen(): number {
    return this.#unseen;
  }

  /** Adds what has changed in the record of a rank. `key` tells it from that of another process. */
  add(key: string, record: RankRecord): void {
    const { rank, reportedAt, at } = record;
    const isOver = hasEnded(record);
    const before = this.#seen.get(key);
    const { ops } = record;
    this.#addPhases(key, record, isOver);
    const last = ops.at(-1)?.number ?? 0;
    // What was called before the first look is not counted.
    const newest = this.#newest.get(key) ?? last;
    const now = new Map(ops.map((op) => [op.number, op]));
    for (const op of before?.ops.values() ?? []) {
      // Its place in the record was taken by another one: it was pending at the last look, when it ended is not known.
      if (op.ended === undefined && !now.has(op.number)) this.#push(viewOf(key, rank, { ...op, ended: before?.at }));
    }
    for (const op of ops) {
      const known = before?.ops.get(op.number);
      if (known === undefined || hasChanged(known, op)) this.#push(viewOf(key, rank, op));
    }
    if (isOver) this.#cut(key, at);
    const fresh = ops.filter(({ number }) => number > newest);
    if (reportedAt === undefined) this.#unseen += Math.max(0, last - newest - fresh.length);
    this.#newest.set(key, Math.max(newest, last));
    this.#seen.set(key, { at, ops: now });
  }

  /** Records are not read any more: what was pending in them has ended. */
  forget(keys: Iterable<string>, at: number): void {
    for (const key of [...keys]) {
      this.#cut(key, at);
      for (const map of [this.#seen, this.#phases, this.#newest]) map.delete(key);
    }
  }

  /** What is pending in a record ends with its process. */
  #cut(key: string, at: number): void {
    for (const [id, view] of [...this.#pending])
      if (id.startsWith(`${key} `)) this.#push({ ...view, ended: at, wasCut: true });
  }

  #push(view: OpView): void {
    if (view.ended === undefined) this.#pending.set(view.id, view);
    else this.#pending.delete(view.id);
    this.#changes.push(view);
    const excess = this.#changes.length - MAX_KEPT;
    // Not at each call: the rest of the array moves.
    if (excess < MAX_KEPT / 10) return;
    this.#changes.splice(0, excess);
    this.#dropped += excess;
  }

  #addPhases(key: string, record: RankRecord, isOver: boolean): void {
    const { rank, at } = record;
    const before = this.#phases.get(key) ?? new Map<string, OpView>();
    const phases = isOver ? [] : phasesOf(record);
    const now = new Map(
      phases.map((phase) => {
        const { name, group = DEFAULT_GROUP, began, callSite } = phase;
        const id = `${key} ${name} ${began}`;
        const view = { ...{ id, rank, group, op: name, text: phaseText(phase) }, ...{ began, callSite } };
        return [id, { ...view, ended: undefined, hasFailed: false, wasCut: false }] as const;
      }),
    );
    for (const [id, view] of now) if (!before.has(id)) this.#push(view);
    for (const [id, view] of before) if (!now.has(id)) this.#push({ ...view, ended: at, wasCut: isOver });
    this.#phases.set(key, now);
  }

  /** The changes that the reader has not got, the newest if they are too many. */
  readBy(reader: Reader): LogPart {
    const { cursor } = reader;
    const first = Math.max(cursor, this.#dropped, this.end - MAX_SENT);
    // What was before it came is not missed.
    if (cursor > 0) reader.omitted += first - cursor;
    reader.cursor = this.end;
    const changes = this.#changes.slice(first - this.#dropped);
    if (first === cursor) return { ops: changes, hasGap: false };
    const changed = new Set(changes.map(({ id }) => id));
    const older = [...this.#pending.values()].filter(({ id }) => !changed.has(id));
    return { ops: [...older, ...changes], hasGap: true };
  }
}

function hasChanged(a: RecordedOp, b: RecordedOp): boolean {
  return a.ended !== b.ended || a.callSite !== b.callSite || a.seq !== b.seq;
}

function viewOf(key: string, rank: number, op: RecordedOp): OpView {
  const { group, began, ended, hasFailed, callSite } = op;
  return {
    ...{ id: `${key} ${op.number}`, rank, group: group ?? "", op: op.op, text: opText(op) },
    ...{ began, ended, hasFailed, wasCut: false, callSite },
  };
}
