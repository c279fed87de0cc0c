import { ReduceOp, tensorsOf } from "../../collectives/index.ts";
import { type DType, dtypes } from "../../tensor/index.ts";
import { copyOf } from "./element-bytes.ts";
import { type Collective, type NumberedCall, readBy } from "./numbered-call.ts";
import { reduceElements } from "./reduce-elements.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** New contents of one rank's outputs, in their order; a shorter list leaves the rest unchanged. */
export type RankResult = readonly Bytes[];

/** A part of an all-to-all whose size is not what its receiver expects. */
export class SplitMismatch extends Error {
  constructor(
    readonly sender: number,
    readonly receiver: number,
    readonly sentBytes: number,
    readonly expectedBytes: number,
  ) {
    super(`rank ${sender} sends ${sentBytes} bytes to rank ${receiver}, which expects ${expectedBytes}`);
  }
}

/** One rank's call with the bytes of what it reads. */
interface Part extends Pick<NumberedCall, "outputs" | "inputSplits" | "outputSplits"> {
  readonly inputs: readonly Bytes[];
  readonly dtype: DType;
}

/** The parameters of a collective that are the same on all ranks. */
interface Terms {
  readonly dtype: DType;
  readonly reduceOp: ReduceOp;
  readonly root: number;
}

type Rule = (parts: readonly Part[], terms: Terms) => readonly RankResult[];

/** What each collective puts into the outputs of each rank, from the inputs of all. */
const rules: { readonly [op in Collective]: Rule } = {
  allReduce: (parts, terms) => toAll(parts, [reduceInputs(parts, 0, terms)]),

  allReduceCoalesced: (parts, terms) => toAll(parts, reduceAll(parts, terms)),

  allReduceSparse: (parts) => toAll(parts, joinAll(parts)),

  broadcast: (parts, { root }) => toAll(parts, inputsOf(parts, root)),

  reduce: (parts, terms) => toRoot(parts, terms.root, [reduceInputs(parts, 0, terms)]),

  allGather: (parts) =>
    toAll(
      parts,
      parts.flatMap(({ inputs }) => inputs),
    ),

  allGatherIntoTensor: (parts) => toAll(parts, joinAll(parts)),

  allGatherIntoTensorCoalesced: (parts) => toAll(parts, joinAll(parts)),

  gather: (parts, { root }) =>
    toRoot(
      parts,
      root,
      parts.flatMap(({ inputs }) => inputs),
    ),

  gatherSingle: (parts, { root }) => toRoot(parts, root, [concat(parts.flatMap(({ inputs }) => inputs))]),

  scatter: (parts, { root }) => parts.map((_, rank) => inputsOf(parts, root).slice(rank, rank + 1)),

  reduceScatter: (parts, terms) => parts.map((_, rank) => [reduceInputs(parts, rank, terms)]),

  reduceScatterTensor: (parts, terms) => scatterReduced(parts, reduceAll(parts, terms)),

  reduceScatterTensorCoalesced: (parts, terms) => scatterReduced(parts, reduceAll(parts, terms)),

  allToAll: (parts) =>
    parts.map(({ outputs }, receiver) =>
      parts.map(({ inputs }, sender) =>
        requireSize(inputs[receiver] ?? new Uint8Array(0), outputs[sender]?.byteLength ?? 0, sender, receiver),
      ),
    ),

  allToAllSingle: (parts) => {
    const sent = parts.map(({ inputs, inputSplits, dtype }) => cut(inputs[0], inputSplits, dtype, parts.length));
    return parts.map((part, receiver) => {
      const expected = splitBytes(part.outputs[0]?.byteLength ?? 0, part.outputSplits, part.dtype, parts.length);
      return [
        concat(
          sent.map((pieces, sender) =>
            requireSize(pieces[receiver] ?? new Uint8Array(0), expected[sender] ?? 0, sender, receiver),
          ),
        ),
      ];
    });
  },

  barrier: (parts) => toAll(parts, []),

  monitoredBarrier: (parts) => toAll(parts, []),
};

/**
 * The results of a collective.
 *
 * @param calls Each rank's call, in the order of ranks; they agree.
 * @throws SplitMismatch when the sizes of an all-to-all do not match.
 */
export function resultsOf(calls: readonly NumberedCall[]): readonly RankResult[] {
  const [first] = calls;
  if (first === undefined) return [];
  const { op, reduceOp = ReduceOp.SUM, root } = first;
  const { dtype = "uint8" } = tensorsOf(first)[0] ?? {};
  const parts = calls.map((call) => ({ ...call, dtype, inputs: readBy(call).map(copyOf) }));
  return rules[op](parts, { dtype, reduceOp, root });
}

function inputsOf(parts: readonly Part[], rank: number): readonly Bytes[] {
  return parts[rank]?.inputs ?? [];
}

/** Reduces the i-th inputs of all ranks. */
function reduceInputs(parts: readonly Part[], i: number, { dtype, reduceOp }: Terms): Bytes {
  return reduceElements(
    dtype,
    reduceOp,
    parts.flatMap(({ inputs }) => inputs.slice(i, i + 1)),
  );
}

/** Reduces the inputs at each place of the lists. */
function reduceAll(parts: readonly Part[], terms: Terms): RankResult {
  return inputsOf(parts, 0).map((_, i) => reduceInputs(parts, i, terms));
}

/** Joins the inputs at each place of the lists, in the order of ranks. */
function joinAll(parts: readonly Part[]): RankResult {
  return inputsOf(parts, 0).map((_, i) => concat(parts.flatMap(({ inputs }) => inputs.slice(i, i + 1))));
}

/** Gives each rank its part of each reduced tensor. */
function scatterReduced(parts: readonly Part[], reduced: readonly Bytes[]): RankResult[] {
  return parts.map((_, rank) =>
    reduced.map((whole) => {
      const bytes = whole.byteLength / parts.length;
      return whole.slice(rank * bytes, (rank + 1) * bytes);
    }),
  );
}

function toAll(parts: readonly Part[], result: RankResult): RankResult[] {
  return parts.map(() => result);
}

function toRoot(parts: readonly Part[], root: number, result: RankResult): RankResult[] {
  return parts.map((_, rank) => (rank === root ? result : []));
}

function concat(pieces: readonly Bytes[]): Bytes {
  const whole = new Uint8Array(pieces.reduce((sum, { byteLength }) => sum + byteLength, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.byteLength;
  }
  return whole;
}

/** Bytes of the part for each rank. */
function splitBytes(total: number, splits: readonly number[] | undefined, dtype: DType, size: number): number[] {
  if (splits === undefined) return new Array<number>(size).fill(total / size);
  return splits.map((elements) => elements * dtypes[dtype].size);
}

function cut(bytes: Bytes = new Uint8Array(0), splits: readonly number[] | undefined, dtype: DType, size: number) {
  let at = 0;
  return splitBytes(bytes.byteLength, splits, dtype, size).map((length) => {
    at += length;
    return bytes.slice(at - length, at);
  });
}

function requireSize(piece: Bytes, expected: number, sender: number, receiver: number): Bytes {
  if (piece.byteLength === expected) return piece;
  throw new SplitMismatch(sender, receiver, piece.byteLength, expected);
}
