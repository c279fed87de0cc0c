import { DEFAULT_GROUP } from "../../../errors/default-group.ts";
import type { OpView } from "./snapshot.ts";

/** The ops of one rank on one group, in the order in which they were called. */
export interface Lane {
  readonly key: string;
  readonly rank: number;
  readonly group: string;
  readonly ops: readonly OpView[];
}

interface OpenLane extends Lane {
  readonly ops: OpView[];
}

/** Maximum number of ops of a lane; the oldest are forgotten. */
const MAX_OPS = 3_000;
/** Maximum number of lanes, as of a job that makes groups all the time; those that were used longest ago are forgotten. */
const MAX_LANES = 512;

/** All ops that the page knows of. */
export class OpLanes {
  #lanes: OpenLane[] = [];
  readonly #byKey = new Map<string, OpenLane>();
  readonly #places = new Map<string, OpView>();

  /** By rank, those of each by group. */
  get all(): readonly Lane[] {
    return this.#lanes;
  }

  /** The op with this id, as it was last seen. */
  get(id: string): OpView | undefined {
    return this.#places.get(id);
  }

  clear(): void {
    this.#lanes = [];
    this.#byKey.clear();
    this.#places.clear();
  }

  /** What is pending and not among these ops has ended, some time before `at`. */
  endOthers(ops: readonly OpView[], at: number): void {
    const given = new Set(ops.map(({ id }) => id));
    const isOver = ({ id, ended }: OpView) => ended === undefined && !given.has(id);
    this.add([...this.#places.values()].filter(isOver).map((op) => ({ ...op, ended: at })));
  }

  /** Has a lane for each of these ranks, also for those that have called nothing: on a group if that is given. */
  addRanks(ranks: readonly number[], group?: string): void {
    const known = new Set(this.#lanes.map(({ rank }) => rank));
    for (const rank of ranks)
      if (group !== undefined || !known.has(rank)) this.#laneOf({ rank, group: group ?? DEFAULT_GROUP });
  }

  add(ops: readonly OpView[]): void {
    for (const op of ops) {
      const { ops: list } = this.#laneOf(op);
      const known = this.#places.get(op.id);
      this.#places.set(op.id, op);
      const at = known === undefined ? -1 : list.lastIndexOf(known);
      if (at >= 0) list[at] = op;
      else insert(list, op);
      if (list.length > MAX_OPS * 1.1) {
        const old = list.splice(0, list.length - MAX_OPS);
        const kept = old.filter(({ ended }) => ended === undefined);
        for (const { id, ended } of old) if (ended !== undefined) this.#places.delete(id);
        list.unshift(...kept);
      }
    }
  }

  #forgetOldest(): void {
    const [oldest] = this.#lanes.toSorted((a, b) => lastUse(a) - lastUse(b));
    if (oldest === undefined) return;
    this.#lanes = this.#lanes.filter((lane) => lane !== oldest);
    this.#byKey.delete(oldest.key);
    for (const { id } of oldest.ops) this.#places.delete(id);
  }

  #laneOf({ rank, group }: Pick<OpView, "rank" | "group">): OpenLane {
    const key = `${rank} ${group}`;
    const known = this.#byKey.get(key);
    if (known !== undefined) return known;
    if (this.#lanes.length >= MAX_LANES) this.#forgetOldest();
    const lane: OpenLane = { key, rank, group, ops: [] };
    this.#byKey.set(key, lane);
    const next = this.#lanes.findIndex(
      (other) => other.rank > rank || (other.rank === rank && isBefore(group, other.group)),
    );
    this.#lanes.splice(next < 0 ? this.#lanes.length : next, 0, lane);
    return lane;
  }
}

/** The default group comes first; the names of others are often numbers. */
function isBefore(a: string, b: string): boolean {
  if (a === DEFAULT_GROUP || b === DEFAULT_GROUP) return a === DEFAULT_GROUP;
  return a.localeCompare(b, "en", { numeric: true }) < 0;
}

/** When a lane was used last; while an op is pending, now. */
function lastUse({ ops }: Lane): number {
  return ops.some(({ ended }) => ended === undefined) ? Number.POSITIVE_INFINITY : (ops.at(-1)?.began ?? 0);
}

function insert(list: OpView[], op: OpView): void {
  let at = list.length;
  while (at > 0 && (list[at - 1]?.began ?? 0) > op.began) at--;
  list.splice(at, 0, op);
}

/** When an op ended, or `now` while it is pending. */
export function endOf(op: OpView, now: number): number {
  return op.ended ?? Math.max(now, op.began);
}

/** Ops of a lane that overlap, in rows: the row of each op that is visible between two times, and the number of rows. */
export function rowsOf(
  ops: readonly OpView[],
  from: number,
  to: number,
  now: number,
): { readonly placed: readonly (readonly [op: OpView, row: number])[]; readonly rows: number } {
  const ends: number[] = [];
  const placed: [OpView, number][] = [];
  for (const op of ops) {
    const end = endOf(op, now);
    if (op.began > to || end < from) continue;
    let row = ends.findIndex((other) => other <= op.began);
    if (row < 0) row = Math.min(ends.length, MAX_ROWS - 1);
    ends[row] = Math.max(end, ends[row] ?? 0);
    placed.push([op, row]);
  }
  return { placed, rows: Math.max(1, ends.length) };
}

/** Overlapping ops beyond that share the last row. */
const MAX_ROWS = 3;
