import { type Operation, type ReduceOpName, reduceOps } from "../../../collectives/index.ts";
import { InvalidArgumentError, UnsupportedOperationError } from "../../../errors/index.ts";
import {
  type DType,
  dtypeNames,
  dtypes,
  SparseTensor,
  type SparseValues,
  sparseDTypes,
  type TensorLike,
  type TensorStorage,
  tensor,
} from "../../../tensor/index.ts";
import type { Work } from "../../../work/index.ts";
import { reduceOpOf } from "../patterns.ts";
import { claimedFor, type SuiteCase } from "../suite-case.ts";
import type { SuiteRank } from "../suite-rank.ts";

const allReduceOps: readonly ReduceOpName[] = [...reduceOps.map(({ name }) => name), "PREMUL_SUM"];

/** A tensor of `2 * times` elements. */
function sample(it: SuiteRank, dtype: DType, times = 1): TensorLike {
  return it.place(dtype, bytesOf(ones(dtype, 2 * times))).tensor;
}

function ones(dtype: DType, length: number): TensorStorage {
  const numbers = dtypes[dtype].kind === "complex" ? 2 * length : length;
  return tensor(Array<number>(numbers).fill(1), { dtype }).data;
}

const bytesOf = ({ buffer, byteOffset, byteLength }: TensorStorage) => new Uint8Array(buffer, byteOffset, byteLength);

/** dtypes that an op can be called with. */
function askable(op: Operation): readonly DType[] {
  if (op === "barrier" || op === "monitoredBarrier") return [];
  return op === "allReduceSparse" ? sparseDTypes : dtypeNames;
}

function sparseSample(dtype: DType): SparseTensor {
  const values = ones(dtype, 2) as SparseValues;
  return new SparseTensor({ indices: [[0, 1]], values, shape: [2], sparseDims: 1 });
}

/** One call of each op that a group of any size supports. */
function calls(it: SuiteRank): readonly (readonly [op: Operation, (dtype: DType) => Work<unknown>])[] {
  const { group, ranks } = it;
  const list = (dtype: DType) => ranks.map(() => sample(it, dtype));
  const whole = (dtype: DType) => sample(it, dtype, ranks.length);
  return [
    ["allReduce", (dtype) => group.allReduce(sample(it, dtype))],
    ["allReduceCoalesced", (dtype) => group.allReduce([sample(it, dtype)])],
    ["allReduceSparse", (dtype) => group.allReduce(sparseSample(dtype))],
    ["broadcast", (dtype) => group.broadcast(sample(it, dtype), { groupSrc: 0 })],
    ["reduce", (dtype) => group.reduce(sample(it, dtype), { groupDst: 0 })],
    ["allGather", (dtype) => group.allGather(list(dtype), sample(it, dtype))],
    ["allGatherIntoTensor", (dtype) => group.allGatherIntoTensor(whole(dtype), sample(it, dtype))],
    ["gather", (dtype) => group.gather(sample(it, dtype), { groupDst: it.rank, outputs: list(dtype) })],
    [
      "gatherSingle",
      (dtype) => group.gatherSingle(it.rank === 0 ? whole(dtype) : undefined, sample(it, dtype), { groupDst: 0 }),
    ],
    ["scatter", (dtype) => group.scatter(sample(it, dtype), { groupSrc: it.rank, inputs: list(dtype) })],
    ["reduceScatter", (dtype) => group.reduceScatter(sample(it, dtype), list(dtype))],
    ["reduceScatterTensor", (dtype) => group.reduceScatterTensor(sample(it, dtype), whole(dtype))],
    ["allToAll", (dtype) => group.allToAll(list(dtype), list(dtype))],
    ["allToAllSingle", (dtype) => group.allToAllSingle(whole(dtype), whole(dtype))],
    ["barrier", () => group.barrier()],
    ["monitoredBarrier", () => group.monitoredBarrier()],
    ...(it.worldSize < 2
      ? []
      : ([
          ["send", (dtype: DType) => group.send(sample(it, dtype), { groupDst: (it.rank + 1) % it.worldSize })],
          ["recv", (dtype: DType) => group.recv(sample(it, dtype), { groupSrc: (it.rank + 1) % it.worldSize })],
        ] as const)),
  ];
}

async function refused(it: SuiteRank, what: string, kind: typeof InvalidArgumentError, work: Work<unknown>) {
  const error = await it.rejection(what, work, 1_000);
  it.check(error instanceof kind, `${what} is refused by ${error.name} instead of ${kind.name}: ${error.message}`);
  it.check(work.seq === -1, `${what} was refused but took sequence number ${work.seq}`);
}

/** After calls that all ranks refused, they must still be in step. */
async function stillInStep(it: SuiteRank): Promise<void> {
  it.check(it.group.state === "OPEN", `refusals left the group ${it.group.state}`);
  if (it.capabilities.ops.barrier !== undefined) await it.end(it.group.barrier());
}

/**
 * What is not claimed must be rejected before anything is sent. All ranks make the same calls, since refused
 * collectives still take their turn; messages do not.
 */
export const refusalCases: readonly SuiteCase[] = [
  {
    name: "refusals > ops and dtypes that are not claimed",
    async run(it) {
      for (const [op, call] of calls(it)) {
        const claimed = claimedFor(it.capabilities, op);
        // An op without tensors has no dtype, and is called once.
        const asked = askable(op).length > 0 ? askable(op) : claimed === undefined ? dtypeNames.slice(0, 1) : [];
        for (const dtype of asked) {
          const isHostless = op === "allReduceSparse" && !it.group.deviceTypes.includes("cpu");
          if (claimed?.includes(dtype) && !isHostless) continue;
          const kind = isHostless ? InvalidArgumentError : UnsupportedOperationError;
          await refused(it, `${op} of ${dtype}, which is not claimed,`, kind, call(dtype));
        }
      }
      await stillInStep(it);
    },
  },
  {
    name: "refusals > reduce ops that are not claimed",
    async run(it) {
      for (const dtype of it.dtypesOf("allReduce")) {
        for (const op of allReduceOps) {
          if (it.capabilities.reduceOps[dtype]?.includes(op)) continue;
          const work = it.group.allReduce(sample(it, dtype), { op: reduceOpOf[op] });
          await refused(it, `${op} of ${dtype}, which is not claimed,`, UnsupportedOperationError, work);
        }
      }
      await stillInStep(it);
    },
  },
  {
    name: "refusals > recv from any source where that is not claimed",
    ops: ["recv"],
    async run(it) {
      const [dtype = "float32"] = it.dtypesOf("recv");
      if (it.rank === 0 && it.capabilities.anySource !== true) {
        await refused(it, "recv from any source", UnsupportedOperationError, it.group.recv(sample(it, dtype)));
      }
      await stillInStep(it);
    },
  },
  {
    name: "refusals > wrong arguments",
    ops: ["broadcast", "allReduce"],
    async run(it) {
      const [dtype = "float32"] = it.dtypesOf("broadcast");
      const root = it.group.broadcast(sample(it, dtype), { groupSrc: it.worldSize });
      await refused(it, "a root outside of the group", InvalidArgumentError, root);
      const limit = it.group.broadcast(sample(it, dtype), { groupSrc: 0, timeout: 0 });
      await refused(it, "a time-out of 0", InvalidArgumentError, limit);
      const nothing = it.group.allReduce("text" as unknown as TensorLike);
      await refused(it, "a text for a tensor", InvalidArgumentError, nothing);
      await stillInStep(it);
    },
  },
];
