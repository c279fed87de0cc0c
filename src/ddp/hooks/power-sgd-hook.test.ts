import { describe, expect, test } from "bun:test";
import { SparseTensor, tensor } from "../../tensor/index.ts";
import { localRanks } from "../../testing/index.ts";
import { DistributedDataParallel } from "../distributed-data-parallel.ts";
import { batchedPowerSGDHook } from "./batched-power-sgd-hook.ts";
import { bf16CompressWrapper, fp16CompressWrapper } from "./compress-wrappers.ts";
import { noise, train } from "./fixtures/given-gradients.ts";
import { powerSGDHook } from "./power-sgd-hook.ts";
import { type PowerSGDOptions, PowerSGDState } from "./power-sgd-state.ts";

const shapes = { weight: [16, 12], bias: [16], kernel: [6, 2, 5, 2] };

/** An element of a matrix that is the sum of `rank` products of a column and a row. */
function lowRank(i: number, columns: number, rank: number, seed: number): number {
  const [row, column] = [Math.floor(i / columns), i % columns];
  let sum = 0;
  for (let j = 0; j < rank; j++) sum += noise(row, 3 * j + 1) * noise(column, 5 * j + 2 + seed);
  return sum;
}

const columnsOf = { weight: 12, bias: 1, kernel: 20 } as const;

function jobOf(
  options: PowerSGDOptions,
  gradient: (rank: number, i: number, name: string, step: number) => number,
  steps = 6,
) {
  return localRanks(2, async ({ rank }) => {
    const state = new PowerSGDState({ startPowerSGDIter: 2, ...options });
    const averages = await train({
      shapes,
      steps,
      dtype: "float64",
      gradient: (i, name, step) => gradient(rank, i, name, step),
      register: (model) => model.registerCommHook(state, powerSGDHook),
    });
    return { averages, stats: state.compressionStats(), iter: state.iter };
  });
}

function expectClose(ours: readonly number[], expected: (i: number) => number, digits = 10): void {
  for (const [i, value] of ours.entries()) expect(value).toBeCloseTo(expected(i), digits);
}

describe("powerSGDHook", () => {
  test.each([
    [1, 1],
    [2, 2],
    [3, 3],
  ])("gradients of rank %d are exact with %d columns, from the first compressed step", async (rank, columns) => {
    const options = { matrixApproximationRank: columns, minCompressionRate: 1 };
    const element = (which: number, i: number, name: string, step: number) => {
      return (which + 1) * lowRank(i, columnsOf[name as keyof typeof columnsOf], rank, step);
    };
    const results = await jobOf(options, element);
    for (const { averages, iter } of results) {
      expect(iter).toBe(6);
      for (const [step, byName] of averages.entries()) {
        for (const [name, values] of Object.entries(byName)) {
          expectClose(values, (i) => (element(0, i, name, step) + element(1, i, name, step)) / 2);
        }
      }
    }
  });

  test("what compression leaves out of one step is added to the next", async () => {
    const fixed = (rank: number, i: number, name: string) => noise(i, rank * 7 + name.length);
    const [first] = await jobOf({ matrixApproximationRank: 2 }, fixed, 22);
    const [without] = await jobOf({ matrixApproximationRank: 2, useErrorFeedback: false }, fixed, 22);
    const errorOf = (averages: readonly Record<string, number[]>[] = []) => {
      const steps = averages.slice(2);
      const sums = averages[0]?.weight?.map((_, i) => steps.reduce((sum, each) => sum + (each.weight?.[i] ?? 0), 0));
      const exact = (i: number) => (fixed(0, i, "weight") + fixed(1, i, "weight")) / 2;
      return Math.hypot(...(sums ?? []).map((sum, i) => sum / steps.length - exact(i)));
    };
    expect(errorOf(first?.averages)).toBeLessThan(0.5 * errorOf(without?.averages));
    expect(first?.averages).not.toEqual(without?.averages);
  });

  test("all ranks get the same, and vectors are exact", async () => {
    const [one, other] = await jobOf({}, (rank, i, name, step) => noise(i, rank * 7 + name.length + step));
    expect(one?.averages).toEqual(other?.averages ?? []);
    for (const [step, { bias = [] }] of (one?.averages ?? []).entries()) {
      expectClose(bias, (i) => (noise(i, 4 + step) + noise(i, 11 + step)) / 2, 15);
    }
  });

  test("counts what it saves, once it compresses", async () => {
    const [one] = await jobOf({ matrixApproximationRank: 2 }, () => 1);
    // (16 + 12) 2 for the weight and (6 + 20) 2 for the kernel; the vector as it is.
    const [before, after] = [4 * (192 + 16 + 120), 4 * (56 + 16 + 52)];
    expect(one?.stats).toEqual({
      compressRate: before / after,
      numelBeforeCompression: before,
      numelAfterCompression: after,
    });
  });

  test("several buckets, one after the other", async () => {
    const element = (rank: number, i: number, name: string, step: number) => {
      return (rank + 1) * lowRank(i, columnsOf[name as keyof typeof columnsOf], 1, step);
    };
    const results = await localRanks(3, async ({ rank }) => {
      const state = new PowerSGDState({ startPowerSGDIter: 2 });
      const averages = await train({
        shapes,
        steps: 5,
        dtype: "float64",
        // A bucket for each parameter.
        bucketCapMb: 1e-4,
        gradient: (i, name, step) => element(rank, i, name, step),
        register: (model) => model.registerCommHook(state, powerSGDHook),
      });
      return { averages, iter: state.iter, buckets: state.save().buckets.map(([index, { names }]) => [index, names]) };
    });
    for (const { averages, iter, buckets } of results) {
      expect(iter).toBe(5);
      expect(buckets).toEqual([
        [0, ["kernel"]],
        [1, ["bias"]],
        [2, ["weight"]],
      ]);
      for (const [step, byName] of averages.entries()) {
        for (const [name, values] of Object.entries(byName)) expectClose(values, (i) => element(1, i, name, step));
      }
    }
  });

  test.each([
    ["float16", fp16CompressWrapper(powerSGDHook), 2],
    ["bfloat16", bf16CompressWrapper(powerSGDHook), 1],
  ] as const)("in %s", async (_, hook, digits) => {
    const [one, other] = await localRanks(2, ({ rank }) =>
      train({
        shapes,
        steps: 4,
        gradient: (i, name) => (rank + 1) * lowRank(i, columnsOf[name as keyof typeof columnsOf], 1, 0),
        register: (model) => model.registerCommHook(new PowerSGDState({ startPowerSGDIter: 2 }), hook),
      }),
    );
    expect(one).toEqual(other ?? []);
    for (const [name, values] of Object.entries(one?.at(-1) ?? {})) {
      expectClose(values, (i) => 1.5 * lowRank(i, columnsOf[name as keyof typeof columnsOf], 1, 0), digits);
    }
  });
});

describe("batchedPowerSGDHook", () => {
  test("gradients whose square is of rank 1 are exact; a bucket that is no square is filled up", async () => {
    const [one] = await localRanks(2, async ({ rank }) => {
      const state = new PowerSGDState({ startPowerSGDIter: 2 });
      // 23 elements, 5 × 5 with zeros: only the first row.
      const averages = await train({
        shapes: { a: [23] },
        steps: 5,
        dtype: "float64",
        gradient: (i) => (i < 5 ? (rank + 1) * (i + 1) : 0),
        register: (model) => model.registerCommHook(state, batchedPowerSGDHook),
      });
      return { averages, stats: state.compressionStats() };
    });
    for (const { a = [] } of one?.averages ?? []) expectClose(a, (i) => (i < 5 ? 1.5 * (i + 1) : 0));
    expect(one?.stats).toEqual({ compressRate: 2.3, numelBeforeCompression: 69, numelAfterCompression: 30 });
  });

  test("with more columns than rows it names the bucket", async () => {
    const run = localRanks(1, () =>
      train({
        shapes: { a: [4] },
        steps: 3,
        gradient: () => 1,
        register: (model) => {
          const state = new PowerSGDState({ startPowerSGDIter: 2, matrixApproximationRank: 3 });
          model.registerCommHook(state, batchedPowerSGDHook);
        },
      }),
    );
    await expect(run).rejects.toThrow(/bucket 0 has 4 elements, a matrix of 2 rows.*smaller matrixApproximationRank/);
  });
});

describe.each([
  ["powerSGDHook", powerSGDHook],
  ["batchedPowerSGDHook", batchedPowerSGDHook],
] as const)("%s", (name, hook) => {
  test("gradients of zeros become NaN without an epsilon, and stay zeros with one", async () => {
    const last = (orthogonalizationEpsilon: number) =>
      localRanks(1, async () => {
        const state = new PowerSGDState({ startPowerSGDIter: 2, orthogonalizationEpsilon });
        const averages = await train({
          shapes: { a: [8, 8] },
          steps: 3,
          gradient: () => 0,
          register: (model) => model.registerCommHook(state, hook),
        });
        return averages.at(-1)?.a?.[0];
      });
    expect(await last(0)).toEqual([Number.NaN]);
    expect(await last(1e-8)).toEqual([0]);
  });

  test("takes a PowerSGDState only", async () => {
    const run = localRanks(1, () =>
      train({
        shapes: { a: [4] },
        steps: 1,
        gradient: () => 1,
        register: (model) => model.registerCommHook(undefined as unknown as PowerSGDState, hook),
      }),
    );
    await expect(run).rejects.toThrow(`${name}: its state is a PowerSGDState`);
  });

  test("refuses sparse and complex gradients", async () => {
    const sparse = localRanks(1, async () => {
      const model = await DistributedDataParallel.create({
        parameters: [{ name: "table", data: new Float32Array(6), shape: [3, 2], sparse: true }],
      });
      model.registerCommHook(new PowerSGDState(), hook);
      const gradient = new SparseTensor({
        indices: BigInt64Array.of(1n),
        values: Float32Array.of(1, 2),
        shape: [3, 2],
        sparseDims: 1,
      });
      await model.step((pass) => pass.ready("table", gradient));
    });
    await expect(sparse).rejects.toThrow(/sparse gradient of table, but the hook takes dense gradients only/);
    const complex = localRanks(1, async () => {
      const data = tensor([1, 0], { dtype: "complex64" });
      const model = await DistributedDataParallel.create({ parameters: [{ name: "phase", data }] });
      model.registerCommHook(new PowerSGDState(), hook);
      await model.step((pass) => pass.ready("phase", tensor([1, 0], { dtype: "complex64" })));
    });
    await expect(complex).rejects.toThrow(`${name}: it takes gradients of float32, float64, float16 and bfloat16`);
  });
});
