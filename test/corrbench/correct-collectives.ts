import * as dist from "bun-c10d";
import type { Body, Correct, CorrectNotHere, Run } from "./shape.ts";

const { SUM, MAX, MIN, PRODUCT } = dist.ReduceOp;
const BLOCK = 64;

const sumOfRanks = (size: number): number => (size * (size - 1)) / 2;
const ranksOf = (size: number): number[] => Array.from({ length: size }, (_, rank) => rank);
/** Blocks of all ranks in order, each filled with its rank and 10. */
const table = (size: number): number[] => ranksOf(size).flatMap((rank) => new Array<number>(BLOCK).fill(rank + 10));
const painted = (rank: number): Int32Array => new Int32Array(BLOCK).fill(rank + 10);
const flat = (tensors: readonly Int32Array[]): number[] => tensors.flatMap((each) => [...each]);

/** Splits all ranks into the even and the odd ones. */
async function inHalves({ group, size }: Run, body: (half: dist.ProcessGroup) => Promise<void>): Promise<void> {
  const parts = [0, 1].map((odd) => ranksOf(size).filter((rank) => rank % 2 === odd));
  const half = await dist.splitGroup(parts, { group, timeout: "10s" });
  if (half === null) throw new Error("every rank is in a part");
  await body(half);
  await half.close();
}

/** A reduction of each dtype to rank 0. */
function reductions(op: dist.ReduceOp, of: (size: number) => number): Body {
  return async ({ group, rank, size, limit, end, expect }) => {
    for (const Storage of [Int8Array, Uint8Array, Int16Array, Int32Array, Uint32Array, Float32Array, Float64Array]) {
      const values = new Storage(3).fill(rank + 1);
      await end(group.reduce(values, { dst: 0, op, ...limit }));
      if (rank === 0) expect([...values], [of(size), of(size), of(size)]);
    }
  };
}

/** The correct programs of MPI-CorrBench's group `coll` that can be written here. */
export const correctCollectives: readonly Correct[] = [
  {
    name: "all-reduces",
    programs: ["allred2", "allred5"],
    async body({ group, rank, size, limit, end, expect }) {
      for (const count of [1, 4, 10 * size, 1_000]) {
        const values = Int32Array.from({ length: count }, (_, i) => rank + i);
        await end(group.allReduce(values, { op: SUM, ...limit }));
        expect(
          [...values],
          Array.from({ length: count }, (_, i) => i * size + sumOfRanks(size)),
        );
      }
    },
  },
  {
    name: "many all-reduces in a row",
    programs: ["allredmany"],
    async body({ group, size, limit, end, expect }) {
      for (let i = 0; i < 1_000; i++) {
        const value = new Float64Array([10]);
        await end(group.allReduce(value, limit));
        if (value[0] !== 10 * size) expect(value[0], 10 * size);
      }
    },
  },
  {
    name: "all-gather",
    programs: ["allgather2", "allgatherv2", "coll7"],
    async body({ group, rank, size, limit, end, expect }) {
      const outputs = ranksOf(size).map(() => new Int32Array(BLOCK));
      await end(group.allGather(outputs, painted(rank), limit));
      expect(flat(outputs), table(size));
      const joined = new Int32Array(BLOCK * size);
      joined.set(painted(rank), rank * BLOCK);
      // The rank's own part at its own place.
      await end(group.allGatherIntoTensor(joined, joined.subarray(rank * BLOCK, (rank + 1) * BLOCK), limit));
      expect([...joined], table(size));
    },
  },
  {
    name: "all-gather of nothing",
    programs: ["allgather3", "allgatherv3"],
    async body({ group, limit, end, expect }) {
      const output = new Float64Array(0);
      await end(group.allGatherIntoTensor(output, new Float64Array(0), limit));
      expect(output.length, 0);
    },
  },
  {
    name: "all-gather in parts of the group",
    programs: ["coll6"],
    lacks: { nccl: "a group of the test stands for the one that is split" },
    async body(run) {
      await inHalves(run, async (half) => {
        const joined = new Int32Array(half.size);
        await run.end(half.allGatherIntoTensor(joined, new Int32Array([run.rank]), run.limit));
        run.expect([...joined], half.globalRanks);
      });
    },
  },
  {
    name: "all-to-all",
    programs: ["alltoall1", "coll13"],
    async body({ group, rank, size, limit, end, expect }) {
      const input = Int32Array.from({ length: 128 * size }, (_, i) => rank * 10_000 + i);
      const output = new Int32Array(128 * size);
      await end(group.allToAllSingle(output, input, limit));
      const expected = ranksOf(size).flatMap((from) =>
        Array.from({ length: 128 }, (_, i) => from * 10_000 + rank * 128 + i),
      );
      expect([...output], expected);
    },
  },
  {
    name: "all-to-all of parts of different sizes",
    programs: ["alltoallv", "alltoallw2"],
    async body({ group, rank, size, limit, end, expect }) {
      // Rank i sends i + j + 1 elements to rank j.
      const splits = ranksOf(size).map((other) => rank + other + 1);
      const total = splits.reduce((a, b) => a + b, 0);
      const output = new Int32Array(total);
      const input = new Int32Array(total).fill(rank);
      await end(group.allToAllSingle(output, input, { inputSplits: splits, outputSplits: splits, ...limit }));
      expect(
        [...output],
        ranksOf(size).flatMap((from) => new Array<number>(rank + from + 1).fill(from)),
      );
    },
  },
  {
    name: "all-to-all among neighbours, with empty parts",
    programs: ["alltoallv0"],
    async body({ group, rank, size, limit, end, expect }) {
      const [left, right] = [(rank + size - 1) % size, (rank + 1) % size];
      const counts = ranksOf(size).map((other): number => (other === left || other === right ? 5 : 0));
      const total = counts.reduce((a, b) => a + b, 0);
      const output = new Int32Array(total);
      const splits = { inputSplits: counts, outputSplits: counts };
      await end(group.allToAllSingle(output, new Int32Array(total).fill(rank), { ...splits, ...limit }));
      expect(
        [...output],
        ranksOf(size).flatMap((from) => new Array<number>(counts[from] ?? 0).fill(from)),
      );
    },
  },
  {
    name: "all-to-all of nothing",
    programs: ["alltoallw_zeros"],
    async body({ group, size, limit, end, expect }) {
      const zeros = new Array<number>(size).fill(0);
      const output = new Int32Array(0);
      const splits = { inputSplits: zeros, outputSplits: zeros };
      await end(group.allToAllSingle(output, new Int32Array(0), { ...splits, ...limit }));
      const outputs = zeros.map(() => new Int32Array(0));
      await end(
        group.allToAll(
          outputs,
          zeros.map(() => new Int32Array(0)),
          limit,
        ),
      );
      expect(outputs.length, size);
    },
  },
  {
    name: "broadcasts of 400 B to 4 MB",
    programs: ["bcasttest"],
    async body({ group, rank, limit, end, expect }) {
      for (const count of [100, 64 * 1_024, 128 * 1_024, 1_024 * 1_024]) {
        for (let turn = 0; turn < 2; turn++) {
          const values = new Int32Array(count).fill(rank === 0 ? count + turn : -1);
          await end(group.broadcast(values, { src: 0, ...limit }));
          expect(
            values.every((value) => value === count + turn),
            true,
          );
        }
      }
    },
  },
  {
    name: "broadcast of nothing",
    programs: ["bcastzerotype"],
    async body({ group, limit, end, expect }) {
      const nothing = new Int32Array(0);
      await end(group.broadcast(nothing, { src: 0, ...limit }));
      expect(nothing.length, 0);
    },
  },
  {
    name: "gather to each root in turn",
    programs: ["coll2", "coll3", "gather", "gather2"],
    async body({ group, rank, size, limit, end, expect }) {
      for (const dst of ranksOf(size)) {
        const outputs = ranksOf(size).map(() => new Int32Array(BLOCK));
        await end(group.gather(painted(rank), { dst, ...(rank === dst ? { outputs } : {}), ...limit }));
        if (rank === dst) expect(flat(outputs), table(size));
      }
    },
  },
  {
    name: "scatter",
    programs: ["coll5", "scattern"],
    async body({ group, rank, size, limit, end, expect }) {
      const row = new Int32Array(BLOCK);
      const inputs = ranksOf(size).map(painted);
      await end(group.scatter(row, { src: 0, ...(rank === 0 ? { inputs } : {}), ...limit }));
      expect([...row], [...painted(rank)]);
    },
  },
  {
    name: "scatter in parts of the group",
    programs: ["coll4"],
    lacks: { nccl: "a group of the test stands for the one that is split" },
    async body(run) {
      await inHalves(run, async (half) => {
        const value = new Int32Array(1);
        const inputs = ranksOf(half.size).map((rank) => new Int32Array([100 + rank]));
        const given = half.rank === 0 ? { inputs } : {};
        await run.end(half.scatter(value, { groupSrc: 0, ...given, ...run.limit }));
        run.expect(value[0], 100 + half.rank);
      });
    },
  },
  {
    name: "reduce and broadcast",
    programs: ["coll8"],
    async body({ group, rank, size, limit, end, expect }) {
      for (const [op, expected] of [
        [SUM, sumOfRanks(size)],
        [MIN, 0],
        [MAX, size - 1],
      ] as const) {
        const value = new Int32Array([rank]);
        await end(group.reduce(value, { dst: 0, op, ...limit }));
        await end(group.broadcast(value, { src: 0, ...limit }));
        expect(value[0], expected);
      }
    },
  },
  {
    name: "reduce to each root in turn",
    programs: ["reduce"],
    async body({ group, rank, size, limit, end, expect }) {
      for (const count of [1, 16, 4_096]) {
        for (const dst of ranksOf(size)) {
          const values = Int32Array.from({ length: count }, (_, i) => rank + i);
          await end(group.reduce(values, { dst, ...limit }));
          if (rank !== dst) continue;
          expect(
            [...values],
            Array.from({ length: count }, (_, i) => i * size + sumOfRanks(size)),
          );
        }
      }
    },
  },
  {
    name: "maximum of each dtype",
    programs: ["opmax"],
    lacks: { nccl: "it does not reduce int16" },
    body: reductions(MAX, (size) => size),
  },
  {
    name: "minimum of each dtype",
    programs: ["opmin"],
    lacks: { nccl: "it does not reduce int16" },
    body: reductions(MIN, () => 1),
  },
  {
    name: "sum of each dtype",
    programs: ["opsum"],
    lacks: { nccl: "it does not reduce int16" },
    body: reductions(SUM, (size) => (size * (size + 1)) / 2),
  },
  {
    name: "product of each dtype",
    programs: ["opprod"],
    lacks: { nccl: "it does not reduce int16" },
    body: reductions(PRODUCT, (size) => ranksOf(size).reduce((product, rank) => product * (rank + 1), 1)),
  },
  {
    name: "reduce-scatter, 4 B to 4 MB in all",
    programs: ["red_scat_block", "redscat", "redscat3", "redscatblk3"],
    async body({ group, rank, size, limit, end, expect }) {
      const expected = size * rank + sumOfRanks(size);
      for (const count of [1, Math.floor((1 << 20) / size)]) {
        const parts = ranksOf(size).map((to) => new Int32Array(count).fill(rank + to));
        const output = new Int32Array(count);
        await end(group.reduceScatter(output, parts, limit));
        expect(
          output.every((value) => value === expected),
          true,
        );
        const input = new Int32Array(count * size);
        for (const [to, part] of parts.entries()) input.set(part, to * count);
        output.fill(0);
        await end(group.reduceScatterTensor(output, input, limit));
        expect(
          output.every((value) => value === expected),
          true,
        );
      }
    },
  },
  {
    name: "two all-reduces at the same time",
    programs: ["iallred"],
    async body({ group, rank, size, limit, end, expect }) {
      const [one, two] = [new Int32Array([rank]), new Int32Array([rank + 1])];
      const first = group.allReduce(one, limit);
      await end(group.allReduce(two, limit));
      await end(first);
      expect([one[0], two[0]], [sumOfRanks(size), sumOfRanks(size) + size]);
    },
  },
  {
    name: "a barrier that is asked whether it has ended",
    programs: ["ibarrier"],
    async body({ group, limit, end, expect }) {
      const work = group.barrier(limit);
      while (!work.isCompleted()) await Bun.sleep(1);
      expect(work.isSuccess(), true);
      await end(work);
    },
  },
  {
    name: "every collective, started and then waited for",
    programs: ["nonblocking"],
    async body({ group, rank, size, limit, end, expect }) {
      const one = (value = rank) => new Int32Array([value]);
      const each = (value: (rank: number) => number) => ranksOf(size).map((other) => one(value(other)));
      const isRoot = rank === 0;
      const [copied, gathered, all, part, reduced, summed, scattered, exchanged] = [
        one(),
        each(() => -1),
        each(() => -1),
        one(-1),
        one(),
        one(),
        one(),
        each(() => -1),
      ];
      const works: dist.Work<unknown>[] = [
        group.barrier(limit),
        group.broadcast(copied, { src: 0, ...limit }),
        group.gather(one(), { dst: 0, ...(isRoot ? { outputs: gathered } : {}), ...limit }),
        group.scatter(part, { src: 0, ...(isRoot ? { inputs: each((other) => other * 2) } : {}), ...limit }),
        group.allGather(all, one(), limit),
        group.allToAll(
          exchanged,
          each((to) => rank * 10 + to),
          limit,
        ),
        group.reduce(reduced, { dst: 0, ...limit }),
        group.allReduce(summed, limit),
        group.reduceScatter(
          scattered,
          each((to) => rank + to),
          limit,
        ),
      ];
      for (const work of works) await end(work);
      expect([copied[0], part[0], summed[0]], [0, rank * 2, sumOfRanks(size)]);
      expect(flat(all), ranksOf(size));
      expect(
        flat(exchanged),
        ranksOf(size).map((from) => from * 10 + rank),
      );
      expect(scattered[0], size * rank + sumOfRanks(size));
      if (isRoot) expect([...flat(gathered), reduced[0]], [...ranksOf(size), sumOfRanks(size)]);
    },
  },
];

/** Those that cannot. */
export const collectivesNotHere: readonly CorrectNotHere[] = [
  {
    reason: "reduce ops of one's own",
    programs: [
      ...["allred3", "allred4", "allred6", "coll9", "coll10", "longuser", "op_commutative", "red3", "red4"],
      ...["red_scat_block2", "redscat2", "reduce_local", "uoplong"],
    ],
  },
  { reason: "scans: PyTorch's c10d has none", programs: ["coll11", "exscan", "exscan2", "scantst"] },
  { reason: "MAXLOC and MINLOC", programs: ["coll12", "opmaxloc", "opminloc"] },
  {
    reason: "communicators of two groups",
    programs: [
      ...["icalltoall", "icalltoallv", "icalltoallw", "icbarrier", "icbcast", "icgather", "icgatherv", "icreduce"],
      ...["icscatter", "icscatterv", "redscatbkinter", "redscatinter"],
    ],
  },
  { reason: "dtypes of one's own", programs: ["allgather_struct", "alltoallw1"] },
  { reason: "neighbourhood collectives", programs: ["neighb_coll"] },
];
