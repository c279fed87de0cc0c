import * as dist from "bun-c10d";
import { everywhere, rootAndOthers, unlessSpared } from "./ends.ts";
import type { At, Faulty, NotHere, Run } from "./shape.ts";
import { called, desync, finishes, missing, refused, refusedTensor, unsupported, type Verdict } from "./verdict.ts";

const { SUM, MAX, PRODUCT, BXOR } = dist.ReduceOp;

const list = (size: number, length: number): Int32Array[] => Array.from({ length: size }, () => new Int32Array(length));
const others = ({ size }: At): number[] => Array.from({ length: size - 1 }, (_, i) => i + 1);

/** A gather on rank 0, which alone passes outputs. */
function gather({ group, rank, limit }: Run, input: dist.TensorLike, outputs: readonly dist.TensorLike[] | undefined) {
  return group.gather(input, { dst: 0, ...(rank === 0 && outputs !== undefined ? { outputs } : {}), ...limit });
}

function scatter({ group, rank, limit }: Run, output: dist.TensorLike, inputs: readonly dist.TensorLike[]) {
  return group.scatter(output, { src: 0, ...(rank === 0 ? { inputs } : {}), ...limit });
}

/** The root refuses its call; the others miss it. */
const rootRefuses = (op: string, argument: string) =>
  rootAndOthers([refused(op, argument)], unlessSpared(missing(op, 0)));
/** The same where the others need data of the root. */
const rootRefusesData = (op: string, argument: string) => rootAndOthers([refused(op, argument)], [missing(op, 0)]);

/** Rank 0 calls a reduce as it should be, the others call another one. */
const rootDiffers = (root: string, other: string) =>
  rootAndOthers(
    (at) => [desync(called(root, 0), called(other, ...others(at)))],
    (at) => unlessSpared(desync(called(root, 0), called(other, ...others(at))))(at),
  );

/** Group `coll` of MPI-CorrBench's `conflo`: 27 programs. */
export const collectiveFaults: readonly (Faulty | NotHere)[] = [
  {
    program: "ArgError-MPIAllgather-SendCount",
    fault: "every rank sends two elements and has room for one of each",
    async body({ group, size, limit, end }) {
      await end(group.allGather(list(size, 1), new Int32Array(2), limit));
    },
    end: everywhere(refused("allGather", "outputs")),
  },
  {
    program: "ArgError-MPIGather-Dest",
    fault: "the root is -1",
    async body({ group, rank, size, limit, end }) {
      const outputs = rank === 0 ? { outputs: list(size, 1) } : {};
      await end(group.gather(new Int32Array(1), { dst: -1, ...outputs, ...limit }));
    },
    end: everywhere(refused("gather", "dst")),
  },
  {
    program: "ArgError-MPIGather-RecvBuffer",
    fault: "the root has no outputs",
    async body(run) {
      await run.end(gather(run, new Int32Array(1), undefined));
    },
    end: rootRefuses("gather", "outputs"),
  },
  {
    program: "ArgError-MPIGather-RecvCount",
    fault: "the root expects two elements of each rank, which send one",
    async body(run) {
      await run.end(gather(run, new Int32Array(1), list(run.size, 2)));
    },
    end: rootRefuses("gather", "outputs"),
  },
  {
    program: "ArgError-MPIGather-RecvType",
    fault: "the root expects another dtype than the ranks send",
    async body(run) {
      const outputs = Array.from({ length: run.size }, () => new Int8Array(1));
      await run.end(gather(run, new Int32Array(1), outputs));
    },
    end: rootRefuses("gather", "outputs"),
  },
  {
    program: "ArgError-MPIGather-SendBuffer",
    fault: "the input is null",
    async body(run) {
      await run.end(gather(run, null as never, list(run.size, 1)));
    },
    end: everywhere(refused("gather", "input")),
  },
  {
    program: "ArgError-MPIGather-SendCount-1",
    fault: "the number of elements to send is -1",
    async body(run) {
      await run.end(gather(run, dist.tensor(new Int32Array(1), { dtype: "int32", shape: [-1] }), list(run.size, 1)));
    },
    end: everywhere(refusedTensor("shape")),
  },
  {
    program: "ArgError-MPIGather-SendCount-2",
    fault: "every rank sends two elements, the root expects one",
    async body(run) {
      await run.end(gather(run, new Int32Array(2), list(run.size, 1)));
    },
    end: rootRefuses("gather", "outputs"),
  },
  {
    program: "ArgError-MPIGather-SendType",
    fault: "every rank sends another dtype than the root expects",
    async body(run) {
      await run.end(gather(run, new Int8Array(1), list(run.size, 1)));
    },
    end: rootRefuses("gather", "outputs"),
  },
  {
    program: "ArgError-MPIReduce-Communicator",
    fault: "the group is null",
    async body({ limit, end }) {
      await end(dist.reduce(new Int32Array([4]), { dst: 0, group: null, ...limit }));
    },
    end: {
      kind: "missed",
      reason: "null is the group of a rank that is not in it: the call does nothing, and warns once per process",
    },
  },
  {
    program: "ArgError-MPIReduce-Count",
    fault: "the number of elements is -1",
    async body({ group, limit, end }) {
      await end(group.reduce(dist.tensor(new Int32Array(1), { dtype: "int32", shape: [-1] }), { dst: 0, ...limit }));
    },
    end: everywhere(refusedTensor("shape")),
  },
  {
    program: "ArgError-MPIReduce-Op-1",
    fault: "the reduce op is null",
    async body({ group, limit, end }) {
      await end(group.reduce(new Int32Array([4]), { dst: 0, op: null as never, ...limit }));
    },
    end: everywhere(refused("reduce", "op")),
  },
  {
    program: "ArgError-MPIReduce-Op-2",
    fault: "a bitwise reduce op on floats",
    async body({ group, limit, end }) {
      await end(group.reduce(new Float32Array([3.41]), { dst: 0, op: BXOR, ...limit }));
    },
    end: everywhere(unsupported("reduce", "op")),
  },
  {
    program: "ArgError-MPIReduce-Op-3",
    fault: "the product of booleans",
    async body({ group, rank, limit, end, expect }) {
      const flag = dist.tensor([true], { dtype: "bool" });
      await end(group.reduce(flag, { dst: 0, op: PRODUCT, ...limit }));
      if (rank === 0) expect([...flag.data], [1]);
    },
    end: { kind: "legal", reason: "the product of booleans is `and`, as in PyTorch" },
  },
  {
    program: "ArgError-MPIReduce-Op-4",
    fault: "the reduce op is none of those for reductions (MPI_REPLACE)",
    async body({ group, limit, end }) {
      await end(group.reduce(new Int32Array([4]), { dst: 0, op: "REPLACE" as never, ...limit }));
    },
    end: everywhere(refused("reduce", "op")),
  },
  {
    program: "ArgError-MPIReduce-RecvBuffer",
    fault: "the root has no tensor for the result (here: the one that is reduced in place)",
    async body({ group, rank, limit, end }) {
      await end(group.reduce(rank === 0 ? (null as never) : new Int32Array([4]), { dst: 0, ...limit }));
    },
    end: rootRefuses("reduce", "tensor"),
  },
  {
    program: "ArgError-MPIReduce-Root",
    fault: "the root is -1",
    async body({ group, limit, end }) {
      await end(group.reduce(new Int32Array([4]), { dst: -1, ...limit }));
    },
    end: everywhere(refused("reduce", "dst")),
  },
  {
    program: "ArgError-MPIReduce-SendBuffer",
    fault: "the tensor is null",
    async body({ group, limit, end }) {
      await end(group.reduce(null as never, { dst: 0, ...limit }));
    },
    end: everywhere(refused("reduce", "tensor")),
  },
  {
    program: "ArgError-MPIScatter-Count-1",
    fault: "the root sends two elements to each rank, which expect one",
    async body(run) {
      await run.end(scatter(run, new Int32Array(1), list(run.size, 2)));
    },
    end: rootRefusesData("scatter", "inputs"),
  },
  {
    program: "ArgError-MPIScatter-Count-2",
    fault: "every rank expects three elements, the root sends one",
    async body(run) {
      await run.end(scatter(run, new Int32Array(3), list(run.size, 1)));
    },
    end: rootRefusesData("scatter", "inputs"),
  },
  {
    program: "ArgMismatch-MPIReduce-Count",
    fault: "rank 0 reduces one element, the others two",
    async body({ group, rank, limit, end }) {
      await end(group.reduce(new Int32Array(rank === 0 ? 1 : 2), { dst: 0, ...limit }));
    },
    end: rootDiffers("reduce(int32[1], SUM, root 0)", "reduce(int32[2], SUM, root 0)"),
  },
  {
    program: "ArgMismatch-MPIReduce-Op",
    fault: "rank 0 reduces by SUM, the others by MAX",
    async body({ group, rank, limit, end }) {
      await end(group.reduce(new Int32Array([16]), { dst: 0, op: rank === 0 ? SUM : MAX, ...limit }));
    },
    end: rootDiffers("reduce(int32[1], SUM, root 0)", "reduce(int32[1], MAX, root 0)"),
  },
  {
    program: "ArgMismatch-MPIReduce-root",
    fault: "rank 0 reduces to itself, the others to rank 1",
    async body({ group, rank, limit, end }) {
      await end(group.reduce(new Int32Array([4]), { dst: rank === 0 ? 0 : 1, ...limit }));
    },
    end: {
      kind: "found",
      by(at) {
        const verdict = desync(
          called("reduce(int32[1], SUM, root 0)", 0),
          called("reduce(int32[1], SUM, root 1)", ...others(at)),
        );
        // Each of the first two waits for the other one's data.
        return at.rank < 2 ? [verdict] : unlessSpared(verdict)(at);
      },
    },
  },
  {
    program: "MisplacedCall-MPIBarrier-Deadlock-1",
    fault: "rank 0 calls a barrier before the broadcast, rank 1 after it",
    async body({ group, rank, limit, end }) {
      if (rank === 0) await end(group.barrier(limit));
      await end(group.broadcast(new Int32Array(1), { src: 0, ...limit }));
      if (rank === 1) await end(group.barrier(limit));
    },
    end: {
      kind: "found",
      by: (at) => [desync(called("barrier()", 0), called("broadcast(int32[1], root 0)", ...others(at)))],
    },
  },
  {
    program: "MissingCall-MPIGather-Deadlock",
    fault: "after a broadcast of all ranks only rank 0 calls the gather",
    async body(run) {
      const numbers = new Int32Array(run.rank === 0 ? [1, 2, 3, 4] : [0, 0, 0, 0]);
      await run.end(run.group.broadcast(numbers, { src: 0, ...run.limit }));
      const sum = numbers.reduce((a, b) => a + b, 0);
      if (run.rank === 0) await run.end(gather(run, new Int32Array([sum]), list(run.size, 1)));
    },
    end: rootAndOthers((at): readonly Verdict[] => [missing("gather", ...others(at))], [finishes]),
  },
  {
    program: "MissingCall-MPIIBcast",
    fault: "of two broadcasts, only the second one is waited for",
    async body({ group, rank, limit, end, expect }) {
      const [first, second] = [new Int32Array([rank === 0 ? 4 : 0]), new Int32Array([rank === 0 ? 5 : 0])];
      group.broadcast(first, { src: 0, ...limit });
      await end(group.broadcast(second, { src: 0, ...limit }));
      expect(second[0], 5);
      await end(group.barrier(limit));
      expect(first[0], 4);
    },
    end: { kind: "legal", reason: "the group keeps an op that nobody waits for; if it fails, that is a warning" },
  },
  {
    program: "MissingCall-MPIReduce-Deadlock",
    fault: "all ranks but the root call the reduce",
    async body({ group, rank, limit, end }) {
      if (rank !== 0) await end(group.reduce(new Int32Array([4]), { dst: 0, ...limit }));
    },
    end: ({ waitsForNeeded }) =>
      waitsForNeeded === true
        ? { kind: "missed", reason: "a rank that only sends in a reduce does not wait for the root; its next op would" }
        : rootAndOthers([finishes], [missing("reduce", 0)]),
  },
];
