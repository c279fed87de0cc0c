import * as dist from "../../src/index.ts";
import type { TensorLike } from "../../src/tensor/index.ts";
import type { TensorPlace } from "./tensor-place.ts";

/** What became of one step. */
export interface Step {
  readonly name: string;
  /** What is wrong; undefined if nothing. */
  readonly wrong?: string;
}

/** Steps that can be left out. */
export type Optional = "averages" | "all-to-all";

const COUNT = 1001;
const dtypes = ["float32", "float64", "float16", "bfloat16", "int32", "int64", "uint8"] as const;

/** What a rank contributes: (1 … 7) times its number, counted from one. */
function values(rank: number, count = COUNT, start = 0): number[] {
  return Array.from({ length: count }, (_, i) => (((start + i) % 7) + 1) * (rank + 1));
}

function sum(lists: readonly (readonly number[])[]): number[] {
  return (lists[0] ?? []).map((_, i) => lists.reduce((total, list) => total + (list[i] ?? Number.NaN), 0));
}

/**
 * The steps of parts/mixed-rank.py, with this library, in the default group of two or more ranks. A step that throws
 * ends it, since the other ranks are then in another one.
 *
 * @param without What the backend lacks.
 */
export async function exchange(place: TensorPlace, without: readonly Optional[] = []): Promise<Step[]> {
  const steps: Step[] = [];
  const [rank, size] = [dist.getRank(), dist.getWorldSize()];
  const everyone = Array.from({ length: size }, (_, i) => i);
  const own = (dtype: (typeof dtypes)[number] = "float32") => place.make(values(rank), dtype);
  const blank = (count = COUNT) => place.make(Array<number>(count).fill(0), "float32");
  const total = sum(everyone.map((each) => values(each)));
  const check = async (name: string, tensor: TensorLike, expected: readonly number[]) => {
    steps.push({ name, ...(await difference(place, tensor, expected)) });
  };

  for (const dtype of dtypes) {
    const tensor = own(dtype);
    await dist.allReduce(tensor);
    await check(`all-reduce ${dtype}`, tensor, total);
  }

  const largest = own();
  await dist.allReduce(largest, { op: dist.ReduceOp.MAX });
  await check("all-reduce MAX", largest, values(size - 1));

  if (!without.includes("averages")) {
    const mean = own();
    await dist.allReduce(mean, { op: dist.ReduceOp.AVG });
    const expected = total.map((each) => each / size);
    await check("all-reduce AVG", mean, expected);
  }

  for (const root of everyone) {
    const tensor = own();
    await dist.broadcast(tensor, { src: root });
    await check(`broadcast from ${root}`, tensor, values(root));
  }

  for (const root of everyone) {
    const tensor = own();
    await dist.reduce(tensor, { dst: root });
    if (rank === root) await check(`reduce to ${root}`, tensor, total);
  }

  const all = everyone.flatMap((each) => values(each));
  const gathered = blank(size * COUNT);
  await dist.allGatherIntoTensor(gathered, own());
  await check("all-gather into one tensor", gathered, all);

  const parts = everyone.map(() => blank());
  await dist.allGather(parts, own());
  for (const [each, part] of parts.entries()) await check(`all-gather of a list, part ${each}`, part, values(each));

  for (const root of everyone) {
    const outputs = rank === root ? everyone.map(() => blank()) : undefined;
    await dist.gather(own(), { dst: root, ...(outputs && { outputs }) });
    for (const [each, part] of (outputs ?? []).entries())
      await check(`gather to ${root}, part ${each}`, part, values(each));
  }

  for (const root of everyone) {
    const output = blank();
    const inputs = everyone.map((each) => place.make(values(root, COUNT, each), "float32"));
    await dist.scatter(output, { src: root, ...(rank === root && { inputs }) });
    await check(`scatter from ${root}`, output, values(root, COUNT, rank));
  }

  const part = blank();
  await dist.reduceScatterTensor(part, place.make(values(rank, size * COUNT), "float32"));
  await check("reduce-scatter", part, sum(everyone.map((each) => values(each, COUNT, rank * COUNT))));

  if (!without.includes("all-to-all")) {
    const received = blank(size * COUNT);
    await dist.allToAllSingle(received, place.make(values(rank, size * COUNT), "float32"));
    const expected = everyone.flatMap((each) => values(each, COUNT, rank * COUNT));
    await check("all-to-all", received, expected);
  }

  if (size === 2) {
    for (const sender of everyone) {
      const tensor = own();
      await (rank === sender ? dist.send(tensor, { dst: 1 - rank }) : dist.recv(tensor, { src: 1 - rank }));
      await check(`message from ${sender}`, tensor, values(sender));
    }
  }

  await dist.barrier();
  steps.push({ name: "barrier" });
  return steps;
}

/** How the elements of a tensor differ from what they should be. */
async function difference(place: TensorPlace, tensor: TensorLike, expected: readonly number[]): Promise<Partial<Step>> {
  const got = await place.read(tensor);
  const at = expected.findIndex((each, i) => each !== got[i]);
  if (at < 0 && got.length === expected.length) return {};
  return { wrong: `element ${at} of ${got.length} is ${got[at]}, not ${expected[at]}` };
}
