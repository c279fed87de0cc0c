import { type CudaTensor, cuda, type ProcessGroup, ReduceOp, type TensorLike, type Work } from "bun-c10d";

/** A collective with arguments, as every rank of a group may call it. `n` is a number of elements. */
export interface Call {
  /** How messages describe it. */
  text(n: number, size: number): string;
  start(group: ProcessGroup, n: number, timeout: number): Work<unknown>;
  /** Whether its result is correct on a rank that does not need the odd one; absent where it has no result then. */
  isRight?(result: unknown, n: number, size: number): boolean;
  /** Whether a rank needs data from another one; absent where all need all. */
  needs?(rank: number, other: number, n: number): boolean;
  /** In an all-to-all: elements that a rank sends to another one, and that it expects from it. */
  readonly parts?: {
    sent(n: number, rank: number, to: number, size: number): number;
    expected(n: number, rank: number, from: number, size: number): number;
  };
}

type Reduction = "SUM" | "MAX" | "MIN";
type DType = "float32" | "int32";

interface Variation {
  readonly op?: Reduction;
  readonly dtype?: DType;
  /** Elements of each tensor, derived from the usual number. */
  readonly elements?: (n: number) => number;
  readonly root?: number;
}

const usualElements = (n: number): number => n;
/** A tensor where the group is: on the device that it is bound to, or in host memory. */
function tensor({ boundDevice }: ProcessGroup, dtype: DType, length: number, fill = 0): TensorLike {
  const values = (dtype === "int32" ? new Int32Array(length) : new Float32Array(length)).fill(fill);
  return boundDevice === undefined ? values : cuda.from(values, { device: boundDevice.index });
}

const list = (group: ProcessGroup, dtype: DType, length: number, fill = 0): TensorLike[] =>
  Array.from({ length: group.size }, () => tensor(group, dtype, length, fill));

const sumOf = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);

/** What a root sends. */
const FILL = 7;

/** The elements of a result. */
function elementsOf(result: unknown): Float32Array | Int32Array | undefined {
  const values = isOnDevice(result) ? result.toHostSync() : result;
  return values instanceof Float32Array || values instanceof Int32Array ? values : undefined;
}

function isOnDevice(result: unknown): result is CudaTensor {
  return typeof result === "object" && result !== null && "toHostSync" in result;
}

function isFilled(result: unknown): boolean {
  return elementsOf(result)?.every((value) => value === FILL) === true;
}

export function allReduce({ op = "SUM", dtype = "float32", elements = usualElements }: Variation = {}): Call {
  return {
    text: (n) => `allReduce(${dtype}[${elements(n)}], ${op})`,
    start: (group, n, timeout) => group.allReduce(tensor(group, dtype, elements(n)), { op: ReduceOp[op], timeout }),
    needs: (_, __, n) => elements(n) > 0,
  };
}

/** Of several tensors, whose sizes are derived from the usual one. */
export function allReduceOfList(sizes: (n: number) => readonly number[]): Call {
  return {
    text(n) {
      return `allReduceCoalesced(${sizes(n).length} tensors of float32, ${sumOf(sizes(n))} elements, SUM)`;
    },
    start: (group, n, timeout) =>
      group.allReduce(
        sizes(n).map((length) => tensor(group, "float32", length)),
        { timeout },
      ),
  };
}

export function broadcast({ dtype = "float32", elements = usualElements, root = 0 }: Variation = {}): Call {
  return {
    text: (n) => `broadcast(${dtype}[${elements(n)}], root ${root})`,
    start(group, n, timeout) {
      const own = tensor(group, dtype, elements(n), group.rank === root ? FILL : 0);
      return group.broadcast(own, { src: root, timeout });
    },
    needs: (rank, other) => rank !== root && other === root,
    isRight: isFilled,
  };
}

export function reduce({ op = "SUM", dtype = "float32", elements = usualElements, root = 0 }: Variation = {}): Call {
  return {
    text: (n) => `reduce(${dtype}[${elements(n)}], ${op}, root ${root})`,
    start: (group, n, timeout) =>
      group.reduce(tensor(group, dtype, elements(n)), { dst: root, op: ReduceOp[op], timeout }),
    needs: (rank) => rank === root,
  };
}

export function allGather({ dtype = "float32", elements = usualElements }: Variation = {}): Call {
  return {
    text: (n) => `allGather(${dtype}[${elements(n)}])`,
    start: (group, n, timeout) =>
      group.allGather(list(group, dtype, elements(n)), tensor(group, dtype, elements(n)), { timeout }),
  };
}

export function allGatherIntoTensor({ dtype = "float32", elements = usualElements }: Variation = {}): Call {
  return {
    text: (n) => `allGatherIntoTensor(${dtype}[${elements(n)}])`,
    start: (group, n, timeout) =>
      group.allGatherIntoTensor(tensor(group, dtype, elements(n) * group.size), tensor(group, dtype, elements(n)), {
        timeout,
      }),
  };
}

export function gather({ dtype = "float32", elements = usualElements, root = 0 }: Variation = {}): Call {
  return {
    text: (n) => `gather(${dtype}[${elements(n)}], root ${root})`,
    start(group, n, timeout) {
      const outputs = group.rank === root ? { outputs: list(group, dtype, elements(n)) } : {};
      return group.gather(tensor(group, dtype, elements(n)), { dst: root, ...outputs, timeout });
    },
    needs: (rank) => rank === root,
  };
}

export function scatter({ dtype = "float32", elements = usualElements, root = 0 }: Variation = {}): Call {
  return {
    text: (n) => `scatter(${dtype}[${elements(n)}], root ${root})`,
    start(group, n, timeout) {
      const filled = () => list(group, dtype, elements(n), FILL);
      const inputs = group.rank === root ? { inputs: filled() } : {};
      return group.scatter(tensor(group, dtype, elements(n)), { src: root, ...inputs, timeout });
    },
    needs: (rank, other) => rank !== root && other === root,
    isRight: isFilled,
  };
}

export function reduceScatter({ op = "SUM", dtype = "float32", elements = usualElements }: Variation = {}): Call {
  return {
    text: (n, size) => `reduceScatter(${size} tensors of ${dtype}, ${elements(n) * size} elements, ${op})`,
    start: (group, n, timeout) =>
      group.reduceScatter(tensor(group, dtype, elements(n)), list(group, dtype, elements(n)), {
        op: ReduceOp[op],
        timeout,
      }),
  };
}

export function reduceScatterTensor({ op = "SUM", dtype = "float32", elements = usualElements }: Variation = {}): Call {
  return {
    text: (n, size) => `reduceScatterTensor(${dtype}[${elements(n) * size}], ${op})`,
    start: (group, n, timeout) =>
      group.reduceScatterTensor(tensor(group, dtype, elements(n)), tensor(group, dtype, elements(n) * group.size), {
        op: ReduceOp[op],
        timeout,
      }),
  };
}

export function allToAll({ dtype = "float32", elements = usualElements }: Variation = {}): Call {
  return {
    text: () => `allToAll(${dtype})`,
    start: (group, n, timeout) =>
      group.allToAll(list(group, dtype, elements(n)), list(group, dtype, elements(n)), { timeout }),
    parts: { sent: (n) => elements(n), expected: (n) => elements(n) },
  };
}

/** @param more Elements that a rank sends to the next one beyond what it sends to the others. */
export function allToAllSingle({ elements = usualElements }: Variation = {}, more = 0): Call {
  const sent = (n: number, rank: number, to: number, size: number) =>
    elements(n) + (to === (rank + 1) % size ? more : 0);
  return {
    text: () => "allToAllSingle(float32)",
    start(group, n, timeout) {
      const ranks = Array.from({ length: group.size }, (_, rank) => rank);
      const inputSplits = ranks.map((to) => sent(n, group.rank, to, group.size));
      const outputSplits = ranks.map(() => elements(n));
      const output = tensor(group, "float32", sumOf(outputSplits));
      const input = tensor(group, "float32", sumOf(inputSplits), group.rank + 1);
      return group.allToAllSingle(output, input, { inputSplits, outputSplits, timeout });
    },
    isRight(result, n, size) {
      const values = elementsOf(result);
      return values?.length === n * size && values.every((value, i) => value === Math.floor(i / n) + 1);
    },
    parts: { sent, expected: (n) => elements(n) },
  };
}

export const barrier: Call = {
  text: () => "barrier()",
  start: (group, _, timeout) => group.barrier({ timeout }),
};

export const monitoredBarrier: Call = {
  text: () => "monitoredBarrier()",
  start: (group, _, timeout) => group.monitoredBarrier({ timeout }),
};
