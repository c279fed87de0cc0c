import { dtypes } from "../tensor/index.ts";
import type { RecordedOp } from "./recorded-slot.ts";
import { type SizeForm, torchObjectOps, torchOps, unequalReduceScatter } from "./torch-names.ts";
import type { RecordedTensor } from "./trace-entry.ts";

/** Name, sizes and dtypes of an op in PyTorch's dumps. */
export interface OpShape {
  readonly name: string;
  readonly inputs: readonly number[][];
  readonly outputs: readonly number[][];
  readonly inputDTypes: readonly string[];
  readonly outputDTypes: readonly string[];
}

/** An op as PyTorch's backends record it. */
export function shapeOf(op: RecordedOp): OpShape {
  const { row, inputs, outputs } = op;
  if (row === undefined || row === "refused") {
    const name = torchObjectOps[op.op] ?? op.op;
    // It reads the first size of an all-gather.
    const sizes = name === "all_gather" ? [[0]] : [];
    const bytes = sizes.map(() => dtypes.uint8.scalarType);
    return { name, inputs: sizes, outputs: sizes, inputDTypes: bytes, outputDTypes: bytes };
  }
  const isUnequal = row === "reduceScatter" && new Set(inputs.map(({ length }) => length)).size > 1;
  const torch = isUnequal ? unequalReduceScatter : torchOps[row];
  const isRead = row === "allGather" || row === "reduceScatter" || row.endsWith("Coalesced");
  const written = isUnequal ? [] : sizesOf(outputs, torch.outputs, isRead);
  const read = sizesOf(inputs, torch.inputs, isRead);
  return {
    name: torch.name,
    inputs: read,
    outputs: written,
    inputDTypes: dtypesOf(inputs, read.length),
    outputDTypes: isUnequal ? dtypesOf(outputs, 1) : dtypesOf(outputs, written.length),
  };
}

function sizesOf(tensors: readonly RecordedTensor[], form: SizeForm, isRead: boolean): number[][] {
  if (tensors.length === 0) return isRead ? [[0]] : [];
  if (form === "each") return tensors.map(({ length }) => [length]);
  return [[tensors.reduce((sum, { length }) => sum + length, 0)]];
}

function dtypesOf([first]: readonly RecordedTensor[], count: number): string[] {
  return Array.from({ length: count }, () => dtypes[first?.dtype ?? "uint8"].scalarType);
}
