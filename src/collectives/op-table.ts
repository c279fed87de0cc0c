import { OpType } from "./op-type.ts";

/**
 * Tensors that an op takes on one side, inputs or outputs:
 * - `tensor`: one tensor; `tensors`: a list of any length
 * - `joined`: one tensor, world size times as long as that of the other side, with the ranks' parts in rank order;
 *   `joinedList`: a list of such tensors, each for the tensor at the same index on the other side
 * - `perRank`: a list of one tensor per rank
 * - `joinedAtRoot`, `perRankAtRoot`: the same on the root, and nothing elsewhere
 */
export type Side =
  | "none"
  | "tensor"
  | "tensors"
  | "joined"
  | "joinedList"
  | "joinedAtRoot"
  | "perRank"
  | "perRankAtRoot";

/** Whether a side has one tensor, or none, rather than a list. */
export function isOneTensor(side: Side): boolean {
  return side === "tensor" || side === "joined" || side === "joinedAtRoot";
}

/** Properties of an op. */
export interface OpRow {
  readonly opType: OpType;
  /** Method of `ProcessGroup` by which users call it. */
  readonly api: string;
  /** Collectives run in the same order on all ranks, messages in no order with them; a turn is a refused collective. */
  readonly kind: "collective" | "message" | "turn";
  readonly inputs: Side;
  readonly outputs: Side;
  /** Whether the outputs are also read: in-place ops have no inputs. */
  readonly inPlace?: true;
  /** Which option names the root: a source or a destination. */
  readonly root?: "src" | "dst";
  readonly reduces?: true;
  /** Whether the parts of its two tensors may differ in length, by `inputSplits` and `outputSplits`. */
  readonly splits?: true;
  /** Whether the tensors of a list may differ in length: only the part that a rank sends to itself must match. */
  readonly unequal?: true;
  /** The op that runs several of these at once. */
  readonly coalesced?: OpName;
  /** The op that does the same with a list of one tensor per rank instead of one joined tensor. */
  readonly perRank?: Operation;
}

/** Every op that a backend can be given. CONTRIBUTING.md says what a new op needs besides a row here. */
const rows = {
  allReduce: {
    opType: OpType.ALLREDUCE,
    api: "allReduce",
    kind: "collective",
    inputs: "none",
    outputs: "tensor",
    inPlace: true,
    reduces: true,
    coalesced: "allReduceCoalesced",
  },
  allReduceCoalesced: {
    opType: OpType.ALLREDUCE_COALESCED,
    api: "allReduce",
    kind: "collective",
    inputs: "none",
    outputs: "tensors",
    inPlace: true,
    reduces: true,
  },
  allReduceSparse: {
    opType: OpType.ALLREDUCE_SPARSE,
    api: "allReduce",
    kind: "collective",
    inputs: "tensors",
    outputs: "tensors",
    unequal: true,
    splits: true,
  },
  broadcast: {
    opType: OpType.BROADCAST,
    api: "broadcast",
    kind: "collective",
    inputs: "none",
    outputs: "tensor",
    inPlace: true,
    root: "src",
  },
  reduce: {
    opType: OpType.REDUCE,
    api: "reduce",
    kind: "collective",
    inputs: "none",
    outputs: "tensor",
    inPlace: true,
    root: "dst",
    reduces: true,
  },
  allGather: {
    opType: OpType.ALLGATHER,
    api: "allGather",
    kind: "collective",
    inputs: "tensor",
    outputs: "perRank",
  },
  allGatherIntoTensor: {
    opType: OpType.ALLGATHER_BASE,
    api: "allGatherIntoTensor",
    kind: "collective",
    inputs: "tensor",
    outputs: "joined",
    coalesced: "allGatherIntoTensorCoalesced",
    perRank: "allGather",
  },
  allGatherIntoTensorCoalesced: {
    opType: OpType.ALLGATHER_COALESCED,
    api: "allGatherIntoTensor",
    kind: "collective",
    inputs: "tensors",
    outputs: "joinedList",
  },
  gather: {
    opType: OpType.GATHER,
    api: "gather",
    kind: "collective",
    inputs: "tensor",
    outputs: "perRankAtRoot",
    root: "dst",
  },
  gatherSingle: {
    opType: OpType.GATHER,
    api: "gatherSingle",
    kind: "collective",
    inputs: "tensor",
    outputs: "joinedAtRoot",
    root: "dst",
    perRank: "gather",
  },
  scatter: {
    opType: OpType.SCATTER,
    api: "scatter",
    kind: "collective",
    inputs: "perRankAtRoot",
    outputs: "tensor",
    root: "src",
  },
  reduceScatter: {
    opType: OpType.REDUCE_SCATTER,
    api: "reduceScatter",
    kind: "collective",
    inputs: "perRank",
    outputs: "tensor",
    reduces: true,
    unequal: true,
  },
  reduceScatterTensor: {
    opType: OpType.REDUCE_SCATTER_BASE,
    api: "reduceScatterTensor",
    kind: "collective",
    inputs: "joined",
    outputs: "tensor",
    reduces: true,
    coalesced: "reduceScatterTensorCoalesced",
    perRank: "reduceScatter",
  },
  reduceScatterTensorCoalesced: {
    opType: OpType.REDUCE_SCATTER_TENSOR_COALESCED,
    api: "reduceScatterTensor",
    kind: "collective",
    inputs: "joinedList",
    outputs: "tensors",
    reduces: true,
  },
  allToAll: {
    opType: OpType.ALLTOALL,
    api: "allToAll",
    kind: "collective",
    inputs: "perRank",
    outputs: "perRank",
    unequal: true,
  },
  allToAllSingle: {
    opType: OpType.ALLTOALL_BASE,
    api: "allToAllSingle",
    kind: "collective",
    inputs: "tensor",
    outputs: "tensor",
    splits: true,
    perRank: "allToAll",
  },
  send: { opType: OpType.SEND, api: "send", kind: "message", inputs: "tensor", outputs: "none" },
  recv: { opType: OpType.RECV, api: "recv", kind: "message", inputs: "none", outputs: "tensor" },
  barrier: { opType: OpType.BARRIER, api: "barrier", kind: "collective", inputs: "none", outputs: "none" },
  monitoredBarrier: {
    opType: OpType.BARRIER,
    api: "monitoredBarrier",
    kind: "collective",
    inputs: "none",
    outputs: "none",
  },
  /** A collective that this rank refused: it takes a turn, so that the ranks' call counts can be compared. */
  refused: { opType: OpType.UNKNOWN, api: "refused", kind: "turn", inputs: "none", outputs: "none" },
} as const satisfies Readonly<
  Record<string, Omit<OpRow, "coalesced" | "perRank"> & { readonly coalesced?: string; readonly perRank?: string }>
>;

/** Name of an op. */
export type OpName = keyof typeof rows;

/** The op table. It defines what the facade checks, what backends can claim and what native code knows of an op. */
export const opTable: { readonly [op in OpName]: OpRow } = rows;

/** Ops that a backend can claim, in the order of the table. */
export const operations = (Object.keys(opTable) as OpName[]).filter(
  (op): op is Operation => opTable[op].kind !== "turn",
);

/** Name of an op in a capability table. */
export type Operation = Exclude<OpName, "refused">;

const singles: ReadonlyMap<OpName, Operation> = new Map(
  operations.flatMap((op) => {
    const { coalesced } = opTable[op];
    return coalesced === undefined ? [] : [[coalesced, op] as const];
  }),
);

/** The op that does for one tensor what this one does for a list, if there is one. */
export function singleOf(op: OpName): Operation | undefined {
  return singles.get(op);
}

/** The op by which a missing one can be replaced, if there is one; `has` says whether an op is available. */
export function madeOf(op: Operation, has: (part: Operation) => boolean): Operation | undefined {
  const { perRank } = opTable[op];
  if (perRank !== undefined && has(perRank)) return perRank;
  const single = singleOf(op);
  if (single === undefined) return undefined;
  return has(single) ? single : madeOf(single, has);
}

/** Names of kinds of op as in the API, for messages. */
export const opNames: { readonly [op in OpType]: string } = {
  ...(Object.fromEntries(
    Object.values(opTable)
      .reverse()
      .map(({ opType, api }) => [opType, api]),
  ) as { [op in OpType]: string }),
  [OpType.RECV_ANY_SOURCE]: "recv",
  [OpType.COALESCED]: "coalescing",
  [OpType.UNKNOWN]: "op",
};
