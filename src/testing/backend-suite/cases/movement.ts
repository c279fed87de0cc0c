import type { DType } from "../../../tensor/index.ts";
import { anyBits, tile } from "../patterns.ts";
import type { SuiteCase } from "../suite-case.ts";
import type { SuiteRank } from "../suite-rank.ts";

/** The contents of part `part` of rank `from`. */
function contents(dtype: DType, length: number, from: number, part = 0): Uint8Array<ArrayBuffer> {
  return tile(anyBits(dtype, from, part), dtype, length);
}

/** Runs `body` with every claimed dtype, every root, and one of the sizes in turn. */
async function withRoots(
  it: SuiteRank,
  op: "broadcast" | "gather" | "gatherSingle" | "scatter",
  body: (dtype: DType, length: number, root: number) => Promise<void>,
): Promise<void> {
  const dtypes = it.dtypesOf(op);
  for (const [i, dtype] of dtypes.entries()) {
    for (const root of it.ranks) {
      for (const length of it.sizesFor(i + root, dtypes.length)) await body(dtype, length, root);
    }
  }
}

/** Number of elements that `sender` has for `receiver`; zero for some. */
function share(sender: number, receiver: number, salt: number): number {
  return (3 * sender + 5 * receiver + salt) % 11;
}

/** Ops that copy: every claimed dtype, arbitrary bits. */
export const movementCases: readonly SuiteCase[] = [
  {
    name: "broadcast > every dtype, root and size",
    ops: ["broadcast"],
    run: (it) =>
      withRoots(it, "broadcast", async (dtype, length, root) => {
        const placed = it.place(dtype, contents(dtype, length, it.rank));
        const result = await it.end(it.group.broadcast(placed.tensor, { groupSrc: root }));
        it.check(result === placed.tensor, "broadcast does not resolve to the caller's tensor");
        it.checkBytes(`broadcast of ${dtype}[${length}] from ${root}`, placed, contents(dtype, length, root));
      }),
  },
  {
    name: "allGather > every dtype and size",
    ops: ["allGather"],
    async run(it) {
      const dtypes = it.dtypesOf("allGather");
      for (const [i, dtype] of dtypes.entries()) {
        for (const length of it.sizesFor(i, dtypes.length)) {
          const input = it.place(dtype, contents(dtype, length, it.rank));
          const outputs = it.ranks.map(() => it.empty(dtype, length));
          const list = outputs.map(({ tensor }) => tensor);
          const result = await it.end(it.group.allGather(list, input.tensor));
          it.check(
            result.every((each, k) => each === list[k]),
            "allGather resolves to other tensors",
          );
          for (const [from, output] of outputs.entries()) {
            it.checkBytes(`allGather of ${dtype}[${length}], output ${from}`, output, contents(dtype, length, from));
          }
          it.checkUnchanged(`allGather of ${dtype}[${length}]`, [input]);
        }
      }
    },
  },
  {
    name: "allGatherIntoTensor > every dtype and size",
    ops: ["allGatherIntoTensor"],
    async run(it) {
      const dtypes = it.dtypesOf("allGatherIntoTensor");
      for (const [i, dtype] of dtypes.entries()) {
        for (const length of it.sizesFor(i, dtypes.length)) {
          const input = it.place(dtype, contents(dtype, length, it.rank));
          const output = it.empty(dtype, length * it.worldSize);
          await it.end(it.group.allGatherIntoTensor(output.tensor, input.tensor));
          const expected = Buffer.concat(it.ranks.map((from) => contents(dtype, length, from)));
          it.checkBytes(`allGatherIntoTensor of ${dtype}[${length}]`, output, expected);
          it.checkUnchanged(`allGatherIntoTensor of ${dtype}[${length}]`, [input]);
        }
      }
    },
  },
  {
    name: "allGatherIntoTensor > lists of tensors",
    ops: ["allGatherIntoTensor"],
    async run(it) {
      const lengths = [5, 0, 1, 67];
      for (const dtype of it.dtypesOf("allGatherIntoTensor")) {
        const inputs = lengths.map((length, i) => it.place(dtype, contents(dtype, length, it.rank, i)));
        const outputs = lengths.map((length) => it.empty(dtype, length * it.worldSize));
        const list = outputs.map(({ tensor }) => tensor);
        const work = it.group.allGatherIntoTensor(
          list,
          inputs.map(({ tensor }) => tensor),
        );
        const result = await it.end(work);
        it.check(
          result.length === list.length && result.every((each, i) => each === list[i]),
          "allGatherIntoTensor of lists does not resolve to the outputs",
        );
        for (const [i, output] of outputs.entries()) {
          const expected = Buffer.concat(it.ranks.map((from) => contents(dtype, lengths[i] ?? 0, from, i)));
          it.checkBytes(`allGatherIntoTensor of a list of ${dtype}, output ${i}`, output, expected);
        }
        it.checkUnchanged(`allGatherIntoTensor of a list of ${dtype}`, inputs);
      }
    },
  },
  {
    name: "gather > every dtype, root and size",
    ops: ["gather"],
    run: (it) =>
      withRoots(it, "gather", async (dtype, length, root) => {
        const input = it.place(dtype, contents(dtype, length, it.rank));
        const outputs = it.rank === root ? it.ranks.map(() => it.empty(dtype, length)) : [];
        const list = outputs.map(({ tensor }) => tensor);
        const result = await it.end(
          it.group.gather(input.tensor, { groupDst: root, ...(it.rank === root && { outputs: list }) }),
        );
        it.check((result !== undefined) === (it.rank === root), "gather resolves to its outputs only on the root");
        const what = `gather of ${dtype}[${length}] to ${root}`;
        for (const [from, output] of outputs.entries()) {
          it.checkBytes(`${what}, output ${from}`, output, contents(dtype, length, from));
        }
        it.checkUnchanged(what, [input]);
      }),
  },
  {
    name: "gatherSingle > every dtype, root and size",
    ops: ["gatherSingle"],
    run: (it) =>
      withRoots(it, "gatherSingle", async (dtype, length, root) => {
        const input = it.place(dtype, contents(dtype, length, it.rank));
        const output = it.rank === root ? it.empty(dtype, length * it.worldSize) : undefined;
        const result = await it.end(it.group.gatherSingle(output?.tensor, input.tensor, { groupDst: root }));
        it.check(result === output?.tensor, "gatherSingle resolves to its output only on the root");
        const what = `gatherSingle of ${dtype}[${length}] to ${root}`;
        const expected = Buffer.concat(it.ranks.map((from) => contents(dtype, length, from)));
        if (output !== undefined) it.checkBytes(what, output, expected);
        it.checkUnchanged(what, [input]);
      }),
  },
  {
    name: "scatter > every dtype, root and size",
    ops: ["scatter"],
    run: (it) =>
      withRoots(it, "scatter", async (dtype, length, root) => {
        const output = it.empty(dtype, length);
        const parts = it.ranks.map((part) => it.place(dtype, contents(dtype, length, root, part)));
        const inputs = parts.map(({ tensor }) => tensor);
        await it.end(it.group.scatter(output.tensor, { groupSrc: root, ...(it.rank === root && { inputs }) }));
        const what = `scatter of ${dtype}[${length}] from ${root}`;
        it.checkBytes(what, output, contents(dtype, length, root, it.rank));
        it.checkUnchanged(what, parts);
      }),
  },
  {
    name: "allToAll > every dtype, parts of several lengths",
    ops: ["allToAll"],
    async run(it) {
      for (const [salt, dtype] of it.dtypesOf("allToAll").entries()) {
        const inputs = it.ranks.map((to) => {
          return it.place(dtype, contents(dtype, share(it.rank, to, salt), it.rank, to));
        });
        const outputs = it.ranks.map((from) => it.empty(dtype, share(from, it.rank, salt)));
        const list = outputs.map(({ tensor }) => tensor);
        const given = inputs.map(({ tensor }) => tensor);
        await it.end(it.group.allToAll(list, given));
        for (const [from, output] of outputs.entries()) {
          const expected = contents(dtype, share(from, it.rank, salt), from, it.rank);
          it.checkBytes(`allToAll of ${dtype}, output ${from}`, output, expected);
        }
        it.checkUnchanged(`allToAll of ${dtype}`, inputs);
      }
    },
  },
  {
    name: "allToAllSingle > every dtype and size, equal parts",
    ops: ["allToAllSingle"],
    async run(it) {
      const dtypes = it.dtypesOf("allToAllSingle");
      for (const [i, dtype] of dtypes.entries()) {
        for (const length of it.sizesFor(i, dtypes.length)) {
          const parts = it.ranks.map((to) => contents(dtype, length, it.rank, to));
          const input = it.place(dtype, Buffer.concat(parts));
          const output = it.empty(dtype, length * it.worldSize);
          await it.end(it.group.allToAllSingle(output.tensor, input.tensor));
          const expected = Buffer.concat(it.ranks.map((from) => contents(dtype, length, from, it.rank)));
          it.checkBytes(`allToAllSingle of ${dtype}[${length}]`, output, expected);
          it.checkUnchanged(`allToAllSingle of ${dtype}[${length}]`, [input]);
        }
      }
    },
  },
  {
    name: "allToAllSingle > splits",
    ops: ["allToAllSingle"],
    async run(it) {
      for (const [salt, dtype] of it.dtypesOf("allToAllSingle").entries()) {
        const inputSplits = it.ranks.map((to) => share(it.rank, to, salt));
        const outputSplits = it.ranks.map((from) => share(from, it.rank, salt));
        const parts = it.ranks.map((to) => contents(dtype, share(it.rank, to, salt), it.rank, to));
        const input = it.place(dtype, Buffer.concat(parts));
        const output = it.empty(
          dtype,
          outputSplits.reduce((sum, split) => sum + split, 0),
        );
        await it.end(it.group.allToAllSingle(output.tensor, input.tensor, { inputSplits, outputSplits }));
        const expected = it.ranks.map((from) => contents(dtype, share(from, it.rank, salt), from, it.rank));
        const what = `allToAllSingle of ${dtype}, splits ${inputSplits.join(", ")} to ${outputSplits.join(", ")}`;
        it.checkBytes(what, output, Buffer.concat(expected));
        it.checkUnchanged(what, [input]);
      }
    },
  },
];
