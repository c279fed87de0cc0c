import { describe, expect, test } from "bun:test";
import * as dist from "../index.ts";
import { localRanks } from "../testing/index.ts";
import { Parameter } from "./parameter.ts";
import { Reducer } from "./reducer.ts";
import { registerCommHook } from "./register-comm-hook.ts";

const floats = (...values: number[]) => Float32Array.from(values);
const make = (...names: string[]) => names.map((name) => new Parameter({ name, data: floats(0, 0) }));

/** One iteration: gives each parameter a gradient, in the order of `order`. */
async function iterate(reducer: Reducer, order: readonly number[], value: number): Promise<void> {
  reducer.prepareForForward();
  await reducer.rebuildBuckets();
  reducer.prepareForBackward();
  for (const parameter of reducer.parameters) parameter.grad = undefined;
  for (const index of order) {
    const parameter = reducer.parameters[index];
    if (parameter !== undefined) parameter.grad = floats(value, index);
    reducer.autogradHook(index);
  }
  await reducer.finalizeBackward();
}

describe("Reducer", () => {
  test("exchanges buckets in their order, whatever order gradients come in, while others are still computed", async () => {
    await localRanks(2, async ({ rank, group }) => {
      const reducer = new Reducer(make("a", "b", "c"), [[2], [1], [0]], [1, 1, 1], group);
      reducer.prepareForForward();
      reducer.prepareForBackward();
      const give = (index: number) => {
        (reducer.parameters[index] as Parameter).grad = floats(rank, index);
        reducer.autogradHook(index);
        return reducer.facts().bucketsReduced;
      };
      expect(give(0)).toBe(0);
      expect(give(2)).toBe(1);
      expect(give(1)).toBe(3);
      await reducer.finalizeBackward();
      expect(reducer.parameters.map(({ grad }) => grad)).toEqual([0, 1, 2].map((index) => floats(0.5, index)));
      const stats = reducer.getBackwardStats();
      expect(stats.every((ns) => ns > 0)).toBe(true);
      expect(stats[0]).toBeLessThan(stats[1] ?? 0);
    });
  });

  test("rebuilds buckets once, in the order in which rank 0 got its gradients", async () => {
    await localRanks(3, async ({ rank, group }) => {
      const reducer = new Reducer(make("a", "b", "c", "d"), [[0, 1, 2, 3]], [1000], group, {
        firstBucketBytesCap: 8,
        bucketBytesCap: 16,
      });
      expect(await reducer.rebuildBuckets()).toBe(false);
      await iterate(reducer, rank === 0 ? [2, 0, 3, 1] : [0, 1, 2, 3], 1);
      expect(await reducer.rebuildBuckets()).toBe(true);
      expect(reducer.bucketIndices).toEqual([[2], [0, 3], [1]]);
      expect(reducer.facts().bucketLimits).toEqual([8, 16, 16]);
      await iterate(reducer, [0, 1, 2, 3], rank);
      expect(await reducer.rebuildBuckets()).toBe(false);
      expect(reducer.parameters.map(({ grad }) => grad)).toEqual([0, 1, 2, 3].map((index) => floats(1, index)));
    });
  });

  test("DDP_SET_LAST_BUCKET_CAP makes the last bucket the small one", async () => {
    process.env.DDP_SET_LAST_BUCKET_CAP = "1";
    try {
      await localRanks(1, async ({ group }) => {
        const options = { firstBucketBytesCap: 8, bucketBytesCap: 16 };
        const reducer = new Reducer(make("a", "b", "c"), [[0, 1, 2]], [1000], group, options);
        await iterate(reducer, [2, 1, 0], 1);
        await reducer.rebuildBuckets();
        expect(reducer.bucketIndices).toEqual([[1, 2], [0]]);
      });
    } finally {
      delete process.env.DDP_SET_LAST_BUCKET_CAP;
    }
  });

  test("outside a backward pass, hooks do nothing", async () => {
    await localRanks(1, async ({ group }) => {
      const reducer = new Reducer(make("a"), [[0]], [1], group);
      reducer.autogradHook(0);
      expect(reducer.facts().bucketsReduced).toBe(0);
      reducer.removeAutogradHooks();
      reducer.prepareForForward();
      reducer.prepareForBackward();
      reducer.autogradHook(0);
      expect(reducer.facts().bucketsReduced).toBe(0);
      expect(() => reducer.checkReducerFinalized()).not.toThrow();
    });
  });

  test("sparse gradients are summed row by row; one that a rank lacks counts as zeros", async () => {
    await localRanks(2, async ({ rank, group }) => {
      const table = new Parameter({ name: "table", data: new Float32Array(8), shape: [4, 2], sparse: true });
      const reducer = new Reducer([table], [[0]], [0], group, { findUnusedParameters: true });
      for (let i = 0; i < 2; i++) {
        reducer.prepareForForward();
        reducer.prepareForBackward();
        table.grad = undefined;
        if (i === 0 || rank === 0) {
          const values = floats(rank + 1, 2);
          table.grad = dist.sparseTensor({ indices: [[rank]], values, shape: [4, 2], sparseDims: 1 });
          reducer.autogradHook(0);
        }
        await reducer.finalizeBackward();
        const { indices, values } = table.grad as unknown as dist.SparseTensor;
        expect([[...indices], [...values]]).toEqual(
          i === 0
            ? [
                [0n, 1n],
                [0.5, 1, 1, 1],
              ]
            : [[0n], [0.5, 1]],
        );
      }
      table.grad = floats(1, 2, 3, 4, 5, 6, 7, 8);
      reducer.prepareForBackward();
      expect(() => reducer.autogradHook(0)).toThrow(
        "Expected variable to have sparse gradient: parameter table needs a SparseTensor of float32 and shape [4, 2], got Float32Array",
      );
    });
  });

  test("sparse gradients of known rows are exchanged as one dense tensor", async () => {
    await localRanks(2, async ({ rank, group }) => {
      const table = new Parameter({ name: "table", data: new Float64Array(8), shape: [4, 2], sparse: true });
      const reducer = new Reducer([table], [[0]], [0], group);
      const ops: string[] = [];
      using _ = group.registerHook({ pre: ({ op }) => void ops.push(op) });
      const pass = async (row: number) => {
        reducer.prepareForForward();
        reducer.prepareForBackward();
        const values = Float64Array.of(rank + 1, 2, 1, 1);
        table.grad = dist.sparseTensor({ indices: [[row, row]], values, shape: [4, 2], sparseDims: 1 });
        reducer.autogradHook(0);
        await reducer.finalizeBackward();
      };
      reducer.setSparseMetadata({ table: BigInt64Array.of(3n, 1n) });
      await pass(2 * rank + 1);
      const { indices, values } = table.grad as unknown as dist.SparseTensor;
      expect([[...indices], [...values]]).toEqual([
        [3n, 1n],
        [1.5, 1.5, 1, 1.5],
      ]);
      expect(ops).toEqual(["allReduce"]);
      // They are for one pass.
      await pass(0);
      expect((table.grad as unknown as dist.SparseTensor).nnz).toBe(1);
      for (const rows of [[4n], [1n, 1n], [-1n]]) {
        expect(() => reducer.setSparseMetadata({ table: BigInt64Array.from(rows) })).toThrow(
          "table: rows are 0 to 3, each once",
        );
      }
      expect(() => reducer.setSparseMetadata({ other: BigInt64Array.of(1n) })).toThrow(
        "no such parameter with sparse gradients",
      );
      reducer.setSparseMetadata({ table: BigInt64Array.of(1n) });
      await expect(pass(2)).rejects.toThrow("the gradient of table has row 2, which is not among the 1 rows");
    });
  });

  test("gradients can be exchanged in another dtype", async () => {
    await localRanks(2, async ({ rank, group }) => {
      const reducer = new Reducer(make("a"), [[0]], [1], group);
      reducer.setMixedPrecisionParamDtype("float16");
      const seen: string[] = [];
      registerCommHook(reducer, undefined, async (_, bucket) => {
        seen.push(bucket.dtype);
        await group.allReduce(bucket.dense());
        return bucket.buffer();
      });
      await iterate(reducer, [0], rank + 1 / 3);
      expect(seen).toEqual(["float16"]);
      expect(reducer.parameters[0]?.grad).toEqual(
        floats(Math.f16round(Math.f16round(1 / 3) + Math.f16round(4 / 3)), 0),
      );
    });
  });

  test("with an optimizer in the backward pass, gradients are used up", async () => {
    await localRanks(2, async ({ rank, group }) => {
      const reducer = new Reducer(make("a"), [[0]], [1], group);
      reducer.setOptimizerInBackward();
      const done: unknown[] = [];
      reducer.installPostBackwardFutures([Promise.resolve().then(() => done.push("future"))]);
      await iterate(reducer, [0], rank);
      expect(reducer.parameters[0]?.grad).toBeUndefined();
      expect(done).toEqual(["future"]);
    });
  });

  test("zeros in the form of the buckets, for ranks without inputs", async () => {
    await localRanks(2, async ({ rank, group }) => {
      const table = new Parameter({ name: "table", data: new Float32Array(8), shape: [4, 2], sparse: true });
      const reducer = new Reducer([...make("a", "b"), table], [[2], [0, 1]], [0, 1], group);
      const zeros = reducer.getZerosLikeGradBuckets();
      expect(zeros.map((bucket) => bucket.parameters().map(({ name }) => name))).toEqual([["table"], ["a", "b"]]);
      const buffer = zeros[1]?.dense() as Float32Array;
      expect(buffer).toEqual(floats(0, 0, 0, 0));
      buffer.fill(rank);
      for (const bucket of zeros) await reducer.runCommHook(bucket);
      expect(buffer).toEqual(floats(1, 1, 1, 1));
    });
  });

  test("whether ranks leave the same parameters unused", async () => {
    await localRanks(1, async ({ group }) => {
      const reducer = new Reducer(make("a", "b"), [[0], [1]], [1, 1], group, { findUnusedParameters: true });
      await iterate(reducer, [0], 1);
      await iterate(reducer, [0], 1);
      expect(reducer.ddpGraphStatic()).toBe(true);
      await iterate(reducer, [1], 1);
      expect(reducer.ddpGraphStatic()).toBe(false);
    });
  });

  test("a group that replaces a lost one", async () => {
    await localRanks(3, async ({ rank, group }) => {
      const reducer = new Reducer(make("a"), [[0]], [1], group);
      await iterate(reducer, [0], rank);
      expect(reducer.parameters[0]?.grad).toEqual(floats(1, 0));
      const fewer = await dist.newGroup([0, 1]);
      if (fewer === null) return;
      reducer.updateProcessGroup(fewer);
      await iterate(reducer, [0], rank);
      expect(reducer.parameters[0]?.grad).toEqual(floats(0.5, 0));
    });
  });

  test("a pass that failed fails its group; resetState() forgets it, for another one", async () => {
    await localRanks(2, async ({ rank }) => {
      const [group, other] = [await dist.newGroup([0, 1]), await dist.newGroup([0, 1])];
      if (group === null || other === null) throw new Error("no group");
      const reducer = new Reducer(make("a", "b"), [[1], [0]], [1, 1], group);
      let fails = true;
      registerCommHook(reducer, undefined, async (_, bucket) => {
        if (fails) throw new Error("once");
        await bucket.group.allReduce(bucket.dense(), { op: dist.ReduceOp.AVG });
        return bucket.buffer();
      });
      await expect(iterate(reducer, [1, 0], rank)).rejects.toMatchObject({ code: "HOOK_FAILED" });
      expect(group.state).toBe("FAILED");
      expect(() => reducer.prepareForBackward()).toThrow(expect.objectContaining({ code: "REDUCTION_FAILED" }));
      fails = false;
      reducer.resetState();
      reducer.updateProcessGroup(other);
      await iterate(reducer, [1, 0], rank);
      expect(reducer.parameters[1]?.grad).toEqual(floats(0.5, 1));
    });
  });

  test("an all-reduce that fails names the parameters of its bucket", async () => {
    const failed = localRanks(
      2,
      async ({ rank, group }) => {
        const reducer = new Reducer(make("weight", "bias"), [[0, 1]], [1], group);
        if (rank === 0) await iterate(reducer, [1, 0], 1);
      },
      { timeout: 1000 },
    );
    await expect(failed).rejects.toThrow("while averaging bucket 0 (weight, bias)");
  });

  test("configurations that cannot be", async () => {
    await localRanks(1, async ({ group }) => {
      const parameters = make("a", "b");
      const wrong: [() => unknown, string][] = [
        [() => new Reducer([], [], [], group), "Expected at least one parameter."],
        [() => new Reducer(parameters, [[0, 1], []], [1, 1], group), "Empty bucket specified."],
        [() => new Reducer(parameters, [[0]], [1], group), "no bucket has b"],
        [() => new Reducer(parameters, [[0, 1], [1]], [1, 1], group), "parameter b is in two buckets"],
        [
          () => new Reducer(parameters, [[0, 1, 2]], [1], group),
          "Out of range variable index. There are parameters 0 to 1, bucket 0 has 2",
        ],
        [
          () => new Reducer(parameters, [[0, 1]], [1], group, { bucketBytesCap: 0 }),
          "the size of a bucket is a number of bytes from 1 on, got number 0",
        ],
        [
          () => new Reducer(parameters, [[0, 1]], [1], group, { expectSparseGradients: [true] }),
          "expectSparseGradients must have one entry for each of 2 parameters",
        ],
        [
          () => new Reducer(parameters, [[0, 1]], [1], group, { expectSparseGradients: [true, false] }),
          "Buckets with more than one variable cannot include variables that expect a sparse gradient: one has a, b",
        ],
        [
          () =>
            new Reducer(
              [...parameters, new Parameter({ name: "c", data: new Float64Array(1) })],
              [[0, 1, 2]],
              [1],
              group,
            ),
          "All parameters in a bucket must have the same dtype: a is of float32, c is of float64",
        ],
      ];
      for (const [make, message] of wrong) expect(make).toThrow(message);
      const reducer = new Reducer(parameters, [[0, 1]], [1], group);
      expect(() => reducer.setDdpRuntimeLoggingSampleRate(0)).toThrow(
        "should be equal or greater than 1, got number 0",
      );
      reducer.prepareForForward();
      expect(() => reducer.setStaticGraph()).toThrow("set_static_graph() should be called before training loop starts");
    });
  });
});
