import { type Pointer, toArrayBuffer } from "bun:ffi";
import { describe, expect, test } from "bun:test";
import { NO_TENSORS, type OpCall, opCall } from "../collectives/op-call.ts";
import { OpType } from "../collectives/op-type.ts";
import { ReduceOp } from "../collectives/reduce-op.ts";
import { dtypes, viewTensor } from "../tensor/index.ts";
import { OpFlag, OpLayout } from "./abi.generated.ts";
import { OpRecords } from "./op-records.ts";

const device = { type: "cpu", index: 0 } as const;
const view = (length: number) => viewTensor(new Float32Array(new ArrayBuffer(4 * length)));

/** What native code reads. */
function read(records: OpRecords) {
  const view = new DataView(records.bytes);
  return Array.from({ length: records.count }, (_, i) => {
    const at = i * OpLayout.SIZE;
    const u32 = (field: number) => view.getUint32(at + field, true);
    const table = (field: number, count: number, width: number): number[] => {
      if (count === 0) return [];
      const address = Number(view.getBigUint64(at + field, true));
      const values = new BigUint64Array(toArrayBuffer(address as Pointer, 0, count * width * 8));
      return [...values].filter((_, k) => k % width === width - 1).map(Number);
    };
    return {
      size: u32(OpLayout.size),
      opcode: u32(OpLayout.opcode),
      dtype: u32(OpLayout.dtype),
      reduceOp: u32(OpLayout.reduceOp),
      factor: view.getFloat64(at + OpLayout.premulFactor, true),
      peer: view.getInt32(at + OpLayout.peer, true),
      tag: u32(OpLayout.tag),
      flags: u32(OpLayout.flags),
      timeoutMs: view.getFloat64(at + OpLayout.timeoutMs, true),
      inputBytes: table(OpLayout.inputs, u32(OpLayout.inputCount), 2),
      outputBytes: table(OpLayout.outputs, u32(OpLayout.outputCount), 2),
      inputSplits: table(OpLayout.inputSplits, u32(OpLayout.inputSplitCount), 1),
      outputSplits: table(OpLayout.outputSplits, u32(OpLayout.outputSplitCount), 1),
    };
  });
}

const plain = {
  size: OpLayout.SIZE,
  dtype: dtypes.float32.code,
  reduceOp: 0,
  factor: 1,
  peer: -1,
  tag: 0,
  flags: 0,
  timeoutMs: 1_000,
  inputBytes: [],
  outputBytes: [],
  inputSplits: [],
  outputSplits: [],
};

const calls: readonly OpCall[] = [
  opCall("reduce", device, NO_TENSORS, [view(3)], 7, { reduceOp: ReduceOp.premulSum(0.5), root: 2 }),
  opCall("allToAllSingle", device, [view(3)], [view(5)], 1_000, { inputSplits: [1, 2], outputSplits: [5, 0] }),
  opCall("recv", device, NO_TENSORS, [view(1)], 1_000, { peer: -1, tag: 2 ** 32 - 1 }),
  opCall("send", device, [view(2)], NO_TENSORS, 1_000, { peer: 1, tag: 4 }),
  opCall("monitoredBarrier", device, NO_TENSORS, NO_TENSORS, 1_000, { waitAllRanks: true }),
  opCall("barrier", device, NO_TENSORS, NO_TENSORS, Number.POSITIVE_INFINITY),
];

const expected = [
  {
    ...plain,
    opcode: OpType.REDUCE,
    reduceOp: ReduceOp.premulSum(1).code,
    factor: 0.5,
    peer: 2,
    timeoutMs: 7,
    outputBytes: [12],
  },
  {
    ...plain,
    opcode: OpType.ALLTOALL_BASE,
    inputBytes: [12],
    outputBytes: [20],
    inputSplits: [1, 2],
    outputSplits: [5, 0],
  },
  { ...plain, opcode: OpType.RECV_ANY_SOURCE, tag: 2 ** 32 - 1, outputBytes: [4] },
  { ...plain, opcode: OpType.SEND, peer: 1, tag: 4, inputBytes: [8] },
  { ...plain, opcode: OpType.BARRIER, dtype: 0, flags: OpFlag.MONITORED | OpFlag.WAIT_ALL_RANKS },
  { ...plain, opcode: OpType.BARRIER, dtype: 0, timeoutMs: Number.POSITIVE_INFINITY },
];

describe("OpRecords", () => {
  test("holds each call of a batch", () => {
    const records = new OpRecords();
    records.fill(calls, calls);
    expect(read(records)).toEqual(expected);
  });

  test("keeps nothing of earlier submissions", () => {
    const records = new OpRecords();
    for (const [i, call] of [...calls.entries(), ...[...calls.entries()].reverse()]) {
      records.fill([call], [call]);
      expect(read(records)).toEqual(expected.slice(i, i + 1));
      if (call.inputs.length > 0) continue;
      records.fillInPlace(call);
      expect(read(records)).toEqual(expected.slice(i, i + 1));
    }
  });

  test("grows with the batch, the lists of tensors and the splits", () => {
    const records = new OpRecords();
    for (const length of [40, 3]) {
      const list = Array.from({ length }, (_, i) => view(i + 1));
      const splits = list.map((_, i) => i);
      const many = [
        opCall("allToAll", device, list, list, 1_000),
        opCall("allToAllSingle", device, [view(1)], [view(1)], 1_000, { inputSplits: splits, outputSplits: splits }),
      ];
      const batch = Array.from({ length }, () => many).flat();
      records.fill(batch, batch);
      const bytes = list.map(({ byteLength }) => byteLength);
      const [lists, parts] = [
        { ...plain, opcode: OpType.ALLTOALL, inputBytes: bytes, outputBytes: bytes },
        {
          ...plain,
          opcode: OpType.ALLTOALL_BASE,
          inputBytes: [4],
          outputBytes: [4],
          inputSplits: splits,
          outputSplits: splits,
        },
      ];
      expect(read(records)).toEqual(Array.from({ length }, () => [lists, parts]).flat());
    }
  });

  test("a sparse tensor has the dtype of its values, an op on a non-root rank that of its only tensor", () => {
    const [indices, values] = [viewTensor(new BigInt64Array(2)), viewTensor(new Float64Array(2))];
    const sides = [indices, values];
    const terms = { continuation: true, inputSplits: [2], outputSplits: [2] };
    const batch = [
      opCall("allReduceSparse", device, sides, sides, 1_000, terms),
      opCall("gather", device, [values], NO_TENSORS, 1_000, { root: 1 }),
    ];
    const records = new OpRecords();
    records.fill(batch, batch);
    expect(read(records).map(({ dtype }) => dtype)).toEqual([dtypes.float64.code, dtypes.float64.code]);
  });

  test("uses the tensors passed for the call, not its own", () => {
    const call = opCall("allReduce", device, NO_TENSORS, [view(3)], 1_000, { reduceOp: ReduceOp.SUM });
    const records = new OpRecords();
    records.fill([call], [{ inputs: NO_TENSORS, outputs: [view(4)] }]);
    expect(read(records)).toEqual([{ ...plain, opcode: OpType.ALLREDUCE, outputBytes: [16] }]);
  });
});
