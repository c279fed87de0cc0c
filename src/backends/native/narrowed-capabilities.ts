import { type Operation, opTable } from "../../collectives/op-table.ts";
import { type ReduceOpName, reduceOpCodes } from "../../collectives/reduce-op.ts";
import type { NativeCapabilities } from "../../native/index.ts";
import type { Capabilities } from "../../registry/index.ts";
import { type DType, dtypes } from "../../tensor/index.ts";

/** The capabilities of a plugin, narrowed to those that its shim reports for this group. */
export function narrowedCapabilities(all: Capabilities, native: NativeCapabilities): Capabilities {
  const { ops, dtypes: types, reduceOps, messagesInOrder } = native;
  if (ops === 0n && types === 0n && reduceOps === 0n && !messagesInOrder) return all;
  const has = (bits: bigint, code: number): boolean => bits === 0n || ((bits >> BigInt(code)) & 1n) === 1n;
  const takes = (dtype: DType): boolean => has(types, dtypes[dtype].code);
  const entries = Object.entries(all.ops) as [Operation, readonly DType[]][];
  const reductions = Object.entries(all.reduceOps) as [DType, readonly ReduceOpName[]][];
  return {
    ...all,
    ...(messagesInOrder && { messagesInOrder }),
    ops: Object.fromEntries(
      entries.filter(([op]) => has(ops, opTable[op].opType)).map(([op, names]) => [op, names.filter(takes)]),
    ),
    reduceOps: Object.fromEntries(
      reductions
        .filter(([dtype]) => takes(dtype))
        .map(([dtype, names]) => [dtype, names.filter((name) => has(reduceOps, reduceOpCodes[name]))]),
    ),
  };
}
