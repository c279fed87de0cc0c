import { describe, expect, test } from "bun:test";
import { type OpCall, opCall, ReduceOp } from "../../collectives/index.ts";
import { viewTensor } from "../../tensor/index.ts";
import { CallSnapshots } from "./call-boundary.ts";

const views = () => [viewTensor(new Float32Array(2))];
const terms = { reduceOp: ReduceOp.SUM, root: 1, peer: 2, tag: 3, inputSplits: [4], outputSplits: [5] };
const made = () => opCall("allToAllSingle", { type: "cpu", index: 0 }, views(), views(), 6, terms);
/** A different value of each field; no two fields have the same value. */
const others = {
  id: -1,
  op: "allReduce",
  device: { type: "cpu", index: 0 },
  inputs: views(),
  outputs: views(),
  reduceOp: ReduceOp.MAX,
  root: 11,
  peer: 12,
  tag: 13,
  batched: true,
  inputSplits: [4],
  outputSplits: [5],
  waitAllRanks: true,
  continuation: true,
  timeoutMs: 16,
  stream: { handle: 17 },
  callSite: new Error(),
} satisfies Record<keyof OpCall, unknown>;

describe("a change in place that a middleware makes to a call", () => {
  test.each(Object.keys(others) as (keyof OpCall)[])("is detected and undone: %s", (field) => {
    const [snapshots, call] = [new CallSnapshots(), made()];
    const before = { ...call };
    snapshots.record([call]);
    expect(snapshots.areStill([call], 0, 1)).toBe(true);
    Object.assign(call, { [field]: others[field] });
    expect(snapshots.areStill([call], 0, 1)).toBe(false);
    snapshots.at(0, 0).restore();
    expect(call[field]).toBe(before[field]);
    expect(snapshots.areStill([call], 0, 1)).toBe(true);
  });
});
