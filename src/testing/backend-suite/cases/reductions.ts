import { SparseTensor, type SparseValues, tensor } from "../../../tensor/index.ts";
import { reduceOpOf, reduction, summands, tile } from "../patterns.ts";
import type { SuiteCase } from "../suite-case.ts";

/** Ops that reduce: every claimed dtype and reduce op. */
export const reductionCases: readonly SuiteCase[] = [
  {
    name: "allReduce > every dtype, reduce op and size",
    ops: ["allReduce"],
    async run(it) {
      const pairs = it.reductionsOf("allReduce");
      for (const [i, { dtype, op }] of pairs.entries()) {
        for (const length of it.sizesFor(i, pairs.length)) {
          const placed = it.place(dtype, tile(summands(dtype, op, it.rank, it.worldSize), dtype, length));
          const what = `allReduce ${op} of ${dtype}[${length}]`;
          const result = await it.end(it.group.allReduce(placed.tensor, { op: reduceOpOf[op] }));
          it.check(result === placed.tensor, `${what} does not resolve to the caller's tensor`);
          it.checkBytes(what, placed, tile(reduction(dtype, op, it.worldSize), dtype, length));
        }
      }
    },
  },
  {
    name: "allReduce > lists of tensors",
    ops: ["allReduceCoalesced"],
    async run(it) {
      const lengths = [7, 0, 1, 129];
      for (const { dtype, op } of it.reductionsOf("allReduceCoalesced")) {
        const input = summands(dtype, op, it.rank, it.worldSize);
        const list = lengths.map((length, i) => it.place(dtype, tile(input, dtype, length, i)));
        const tensors = list.map(({ tensor }) => tensor);
        const what = `allReduce ${op} of a list of ${dtype}`;
        const result = await it.end(it.group.allReduce(tensors, { op: reduceOpOf[op] }));
        it.check(result.length === 4 && result.every((each, i) => each === tensors[i]), `${what} resolves to others`);
        for (const [i, placed] of list.entries()) {
          const expected = tile(reduction(dtype, op, it.worldSize), dtype, lengths[i] ?? 0, i);
          it.checkBytes(`${what}, tensor ${i}`, placed, expected);
        }
      }
    },
  },
  {
    name: "allReduce > sparse tensors",
    ops: ["allReduceSparse"],
    memory: "host",
    async run(it) {
      const last = it.worldSize;
      for (const dtype of it.dtypesOf("allReduceSparse")) {
        // Each rank has a row of its own and the last one, which rank 0 lists twice.
        const rows = it.rank === 0 ? [0, last, last] : [it.rank, last];
        const values = rows.flatMap((row) => [row + 1, 2]);
        const { data } = tensor(dtype === "int64" ? values.map(BigInt) : values, { dtype });
        const shape = [last + 1, 2];
        const input = new SparseTensor({ indices: [rows], values: data as SparseValues, shape, sparseDims: 1 });
        const sum = await it.group.allReduce(input);
        const what = `allReduce of sparse ${dtype}`;
        const found = new Map(
          Array.from(sum.indices, (row, i) => [Number(row), [...sum.values].slice(2 * i, 2 * i + 2)]),
        );
        it.check(found.size === last + 1 && sum.nnz === last + 1, `${what} has rows ${sum.indices.join(", ")}`);
        for (const row of [...it.ranks, last]) {
          const times = row === last ? last + 1 : 1;
          const got = (found.get(row) ?? []).map(Number).join(", ");
          it.check(got === `${times * (row + 1)}, ${2 * times}`, `${what}, row ${row} is ${got}`);
        }
      }
    },
  },
  {
    name: "reduce > every dtype, reduce op and root",
    ops: ["reduce"],
    async run(it) {
      for (const [i, { dtype, op }] of it.reductionsOf("reduce").entries()) {
        for (const root of it.ranks) {
          const length = it.sweep.sizes[(i + root) % it.sweep.sizes.length] ?? 7;
          const placed = it.place(dtype, tile(summands(dtype, op, it.rank, it.worldSize), dtype, length));
          const dst = it.group.globalRanks[root] ?? root;
          await it.end(it.group.reduce(placed.tensor, { op: reduceOpOf[op], dst }));
          // On the others, only the guards can be checked.
          const expected =
            root === it.rank ? tile(reduction(dtype, op, it.worldSize), dtype, length) : placed.contents();
          it.checkBytes(`reduce ${op} of ${dtype}[${length}] to ${root}`, placed, expected);
        }
      }
    },
  },
  {
    name: "reduceScatter > every dtype and reduce op, parts of several lengths",
    ops: ["reduceScatter"],
    async run(it) {
      for (const [i, { dtype, op }] of it.reductionsOf("reduceScatter").entries()) {
        const lengths = it.ranks.map((part) => (i + 5 * part) % 13);
        const input = summands(dtype, op, it.rank, it.worldSize);
        const inputs = lengths.map((length, part) => it.place(dtype, tile(input, dtype, length, 17 * part)));
        const length = lengths[it.rank] ?? 0;
        const output = it.empty(dtype, length);
        const list = inputs.map(({ tensor }) => tensor);
        await it.end(it.group.reduceScatter(output.tensor, list, { op: reduceOpOf[op] }));
        const what = `reduceScatter ${op} of ${dtype}[${lengths.join(", ")}]`;
        it.checkBytes(what, output, tile(reduction(dtype, op, it.worldSize), dtype, length, 17 * it.rank));
        it.checkUnchanged(what, inputs);
      }
    },
  },
  {
    name: "reduceScatterTensor > every dtype, reduce op and size",
    ops: ["reduceScatterTensor"],
    async run(it) {
      const pairs = it.reductionsOf("reduceScatterTensor");
      for (const [i, { dtype, op }] of pairs.entries()) {
        for (const length of it.sizesFor(i, pairs.length)) {
          const summand = tile(summands(dtype, op, it.rank, it.worldSize), dtype, length * it.worldSize);
          const input = it.place(dtype, summand);
          const output = it.empty(dtype, length);
          await it.end(it.group.reduceScatterTensor(output.tensor, input.tensor, { op: reduceOpOf[op] }));
          const what = `reduceScatterTensor ${op} of ${dtype}[${length}]`;
          it.checkBytes(what, output, tile(reduction(dtype, op, it.worldSize), dtype, length, it.rank * length));
          it.checkUnchanged(what, [input]);
        }
      }
    },
  },
  {
    name: "reduceScatterTensor > lists of tensors",
    ops: ["reduceScatterTensor"],
    async run(it) {
      const lengths = [3, 0, 1, 41];
      for (const { dtype, op } of it.reductionsOf("reduceScatterTensor")) {
        const summand = summands(dtype, op, it.rank, it.worldSize);
        const inputs = lengths.map((n, i) => it.place(dtype, tile(summand, dtype, n * it.worldSize, i)));
        const outputs = lengths.map((length) => it.empty(dtype, length));
        const list = outputs.map(({ tensor }) => tensor);
        const wholes = inputs.map(({ tensor }) => tensor);
        await it.end(it.group.reduceScatterTensor(list, wholes, { op: reduceOpOf[op] }));
        for (const [i, output] of outputs.entries()) {
          const length = lengths[i] ?? 0;
          const expected = tile(reduction(dtype, op, it.worldSize), dtype, length, i + it.rank * length);
          it.checkBytes(`reduceScatterTensor ${op} of a list of ${dtype}, output ${i}`, output, expected);
        }
        it.checkUnchanged(`reduceScatterTensor ${op} of a list of ${dtype}`, inputs);
      }
    },
  },
];
