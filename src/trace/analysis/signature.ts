import { isUneven } from "../op-kind.ts";
import type { TraceCall } from "../rank-trace.ts";

/** In what two calls differ that have to be the same. */
export type Difference = "op" | "input sizes" | "output sizes" | "dtypes" | "reduce op" | "root";

/** Which numbers of elements have to be the same on all ranks, by the kind of op. Of others, none. */
const sameSizes: Readonly<Record<string, "inputs" | "outputs" | "both">> = {
  all_reduce: "both",
  broadcast: "both",
  reduce: "both",
  all_gather: "inputs",
  gather: "inputs",
  scatter: "outputs",
  reduce_scatter: "both",
};

const componentOf: Readonly<Record<string, string>> = { ComplexFloat: "Float", ComplexDouble: "Double" };

/** In what two ranks' calls of the same collective differ. What one of them does not say counts as equal. */
export function differences(a: TraceCall, b: TraceCall): readonly Difference[] {
  if (a.kind !== b.kind) return ["op"];
  const found: Difference[] = [];
  const compared = isUneven(a.name) || isUneven(b.name) ? undefined : sameSizes[a.kind];
  if (compared === "inputs" || compared === "both") {
    const same = sameElements(a.inputSizes, a.inputDtypes, b.inputSizes, b.inputDtypes);
    if (!same) found.push("input sizes");
  }
  if (compared === "outputs" || compared === "both") {
    const same = sameElements(a.outputSizes, a.outputDtypes, b.outputSizes, b.outputDtypes);
    if (!same) found.push("output sizes");
  }
  if (!sameDtypes(dtypesOf(a), dtypesOf(b))) found.push("dtypes");
  if (a.reduceOp !== undefined && b.reduceOp !== undefined && a.reduceOp !== b.reduceOp) found.push("reduce op");
  if (a.root !== undefined && b.root !== undefined && a.root !== b.root) found.push("root");
  return found;
}

/** Whether both have as many elements. Shapes may differ: PyTorch's ranks say [4, 3] where others say [12]. */
function sameElements(
  a: readonly (readonly number[])[],
  dtypesOfA: readonly string[],
  b: readonly (readonly number[])[],
  dtypesOfB: readonly string[],
): boolean {
  if (a.length === 0 || b.length === 0) return true;
  if (a.length !== b.length) return total(a, dtypesOfA) === total(b, dtypesOfB);
  return a.every((sizes, i) => elements(sizes, dtypesOfA[i]) === elements(b[i] ?? [], dtypesOfB[i]));
}

function total(tensors: readonly (readonly number[])[], dtypes: readonly string[]): number {
  return tensors.reduce((sum, sizes, i) => sum + elements(sizes, dtypes[i]), 0);
}

/** PyTorch's Gloo backend records a complex number as two real ones. */
function elements(sizes: readonly number[], dtype: string | undefined): number {
  let product = dtype !== undefined && componentOf[dtype] !== undefined ? 2 : 1;
  for (const size of sizes) product *= size;
  return product;
}

/** Number of elements of an op's tensors on one side. */
export function numel(tensors: readonly (readonly number[])[]): number {
  return total(tensors, []);
}

/** The dtypes of an op, each once. */
export function dtypesOf({ inputDtypes, outputDtypes }: TraceCall): readonly string[] {
  if (inputDtypes.length <= 1 && outputDtypes.length <= 1 && inputDtypes[0] === outputDtypes[0]) return inputDtypes;
  return [...new Set([...inputDtypes, ...outputDtypes])];
}

function sameDtypes(a: readonly string[], b: readonly string[]): boolean {
  if (a.length === 0 || b.length === 0) return true;
  if (a.length === 1 && b.length === 1 && a[0] === b[0]) return true;
  const components = new Set(a.map((dtype) => componentOf[dtype] ?? dtype));
  const others = new Set(b.map((dtype) => componentOf[dtype] ?? dtype));
  return components.size === others.size && [...components].every((dtype) => others.has(dtype));
}

/** Ranks whose calls are the same. */
export interface Side {
  readonly ranks: readonly number[];
  /** The call of one of them. */
  readonly op: TraceCall;
}

/** The ranks by the call that they made; the largest set of ranks first. One if all calls are the same. */
export function sidesOf(calls: ReadonlyMap<number, TraceCall>): readonly Side[] {
  const sides: { readonly ranks: number[]; readonly op: TraceCall }[] = [];
  for (const [rank, op] of calls) {
    const side = sides.find((each) => differences(each.op, op).length === 0);
    if (side === undefined) sides.push({ ranks: [rank], op });
    else side.ranks.push(rank);
  }
  return sides.sort((a, b) => b.ranks.length - a.ranks.length);
}
