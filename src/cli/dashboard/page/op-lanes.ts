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

/** All ops that the page knows of. */
export class OpLanes {
  #lanes: OpenLane[] = [];
  readonly #byKey = new Map<string, OpenLane>();
  readonly #places = new Map<string, OpView>();

  /** By rank, the groups of each in the order in which they were first used. */
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

  add(ops: readonly OpView[]): void {
    for (const op of ops) {
      const { ops: list } = this.#laneOf(op);
      const known = this.#places.get(op.id);
      this.#places.set(op.id, op);
      const at = known === undefined ? -1 : list.lastIndexOf(known);
      if (at >= 0) list[at] = op;
      else insert(list, op);
      if (list.length > MAX_OPS * 1.1) {
        for (const old of list.splice(0, list.length - MAX_OPS)) this.#places.delete(old.id);
      }
    }
  }

  #laneOf({ rank, group }: OpView): OpenLane {
    const key = `${rank} ${group}`;
    const known = this.#byKey.get(key);
    if (known !== undefined) return known;
    const lane: OpenLane = { key, rank, group, ops: [] };
    this.#byKey.set(key, lane);
    const next = this.#lanes.findIndex((other) => other.rank > rank);
    this.#lanes.splice(next < 0 ? this.#lanes.length : next, 0, lane);
    return lane;
  }
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
