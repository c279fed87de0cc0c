import { opText, type RankRecord, type RecordedOp } from "../../status/index.ts";
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

/** What happened to the ops of all ranks, as far as the looks at their records have shown it. */
export class OpLog {
  readonly #changes: OpView[] = [];
  /** Number of changes that are no longer kept. */
  #dropped = 0;
  /** The ops of the last look, by record and number. */
  readonly #seen = new Map<string, Map<number, RecordedOp>>();
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
  add(key: string, { rank, ops, reportedAt }: Pick<RankRecord, "rank" | "ops" | "reportedAt">): void {
    const before = this.#seen.get(key);
    const last = ops.at(-1)?.number ?? 0;
    // What was called before the first look is not counted.
    const newest = this.#newest.get(key) ?? last;
    for (const op of ops) {
      const known = before?.get(op.number);
      if (known !== undefined && !hasChanged(known, op)) continue;
      this.#changes.push(viewOf(key, rank, op));
    }
    const fresh = ops.filter(({ number }) => number > newest);
    if (reportedAt === undefined) this.#unseen += Math.max(0, last - newest - fresh.length);
    this.#newest.set(key, Math.max(newest, last));
    this.#seen.set(key, new Map(ops.map((op) => [op.number, op])));
    const excess = this.#changes.length - MAX_KEPT;
    // Not at each call: the rest of the array moves.
    if (excess < MAX_KEPT / 10) return;
    this.#changes.splice(0, excess);
    this.#dropped += excess;
  }

  /** The changes that the reader has not got, the newest if they are too many. */
  readBy(reader: Reader): readonly OpView[] {
    const first = Math.max(reader.cursor, this.#dropped, this.end - MAX_SENT);
    // What was before it came is not missed.
    if (reader.cursor > 0) reader.omitted += first - reader.cursor;
    reader.cursor = this.end;
    return this.#changes.slice(first - this.#dropped);
  }
}

function hasChanged(a: RecordedOp, b: RecordedOp): boolean {
  return a.ended !== b.ended || a.callSite !== b.callSite || a.seq !== b.seq;
}

function viewOf(key: string, rank: number, op: RecordedOp): OpView {
  const { group, began, ended, hasFailed, callSite } = op;
  return {
    ...{ id: `${key} ${op.number}`, rank, group: group ?? "", op: op.op, text: opText(op) },
    ...{ began, ended, hasFailed, callSite },
  };
}
