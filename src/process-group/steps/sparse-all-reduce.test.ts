import { expect, test } from "bun:test";
import * as dist from "../../index.ts";
import { localRanks } from "../../testing/index.ts";

async function errorOf(work: PromiseLike<unknown>): Promise<dist.DistError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof dist.DistError) return error;
    throw error;
  }
  throw new Error("it did not fail");
}

/** Rank r lists r values: at 0, at r, and so on. */
function own(rank: number): dist.SparseTensor<Float64Array> {
  const places = Array.from({ length: rank }, (_, i) => i * rank);
  return dist.sparseTensor({
    indices: [places],
    values: Float64Array.from(places, (place) => place + 0.5),
    shape: [10],
  });
}

test.each([1, 2, 3, 4])("all ranks get the sum of their sparse tensors, %d ranks", async (n) => {
  const expected = Array.from({ length: n }, (_, rank) => own(rank)).reduce<Map<bigint, number>>(
    (sums, { indices, values }) => {
      for (const [i, place] of indices.entries()) sums.set(place, (sums.get(place) ?? 0) + (values[i] ?? 0));
      return sums;
    },
    new Map(),
  );
  await localRanks(n, async ({ rank }) => {
    const work = dist.allReduce(own(rank));
    const after = dist.allReduce(new Int32Array([1]));
    expect(work.opType).toBe(dist.OpType.ALLREDUCE_SPARSE);
    const { indices, values, shape } = await work;
    expect(new Map(Array.from(indices, (place, i) => [place, values[i] ?? 0]))).toEqual(expected);
    expect([...indices]).toEqual([...expected.keys()].sort((a, b) => Number(a - b)));
    expect(shape).toEqual([10]);
    expect((await after)[0]).toBe(n);
  });
});

test("an index space beyond the exact integers of a double, and values in a Buffer", async () => {
  await localRanks(2, async ({ rank }) => {
    const values = Buffer.from([rank + 1, 10, 20]);
    const tensor = dist.sparseTensor({
      indices: [
        [2 ** 40 - 1, 2 ** 40 - 1, 0],
        [rank, 5, 5],
      ],
      values,
      shape: [2 ** 40, 2 ** 40],
    });
    const sum = await dist.allReduce(tensor);
    const last = BigInt(2 ** 40 - 1);
    expect([...sum.indices]).toEqual([0n, last, last, last, 5n, 0n, 1n, 5n]);
    expect([...sum.values]).toEqual([40, 1, 2, 20]);
    expect([...values]).toEqual([rank + 1, 10, 20]);
  });
});

test("tensors that do not match fail on all ranks, and the group stays usable", async () => {
  await localRanks(2, async ({ rank }) => {
    const tensor = dist.sparseTensor({ indices: [[0]], values: new Float32Array(1), shape: [rank + 2] });
    const error = await errorOf(dist.allReduce(tensor));
    expect(error).toMatchObject({ code: "SPARSE_MISMATCH", details: { peers: [1] } });
    expect(error.message).toContain("rank 0 has dimensions [2, 0, 0, 0, 0, 0, 0, 0], rank 1 has [3,");
    const wrong = await errorOf(dist.allReduce(tensor, { op: dist.ReduceOp.MAX }));
    expect(wrong).toMatchObject({ name: "UnsupportedOperationError", code: "UNSUPPORTED_OPERATION" });
    await dist.barrier();
  });
});
