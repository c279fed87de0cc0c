import { describe, expect, test } from "bun:test";
import { localRanks } from "../../testing/index.ts";
import type { CommHook } from "../comm-hook.ts";
import type { HookGroup } from "./default-hooks.ts";
import { noise, train } from "./fixtures/given-gradients.ts";
import { quantizationPerChannelHook, quantizationPerTensorHook } from "./quantization-hooks.ts";

function trained(
  hook: CommHook<HookGroup>,
  length: number,
  gradient: (i: number, rank: number) => number,
  dtype: "float32" | "float64" = "float32",
) {
  return localRanks(3, async ({ rank }) => {
    const [step] = await train({
      shapes: { a: [length] },
      steps: 1,
      dtype,
      gradient: (i) => gradient(i, rank),
      register: (model) => model.registerCommHook(undefined, hook),
    });
    return step?.a ?? [];
  });
}

describe.each<[string, CommHook<HookGroup>]>([
  ["quantizationPerTensorHook", quantizationPerTensorHook],
  ["quantizationPerChannelHook", quantizationPerChannelHook],
])("%s", (_, hook) => {
  test.each([1, 511, 512, 513, 1300])("averages %d gradients, to half a level of each rank", async (length) => {
    const [one, ...others] = await trained(hook, length, (i, rank) => (rank + 1) * noise(i, rank));
    for (const other of others) expect(other).toEqual(one ?? []);
    expect(one).toHaveLength(length);
    // Ranges of up to 2, 4 and 6 in 255 levels.
    const tolerance = (2 + 4 + 6) / 255 / 2 / 3 + 1e-6;
    for (const [i, value] of (one ?? []).entries()) {
      const exact = (noise(i, 0) + 2 * noise(i, 1) + 3 * noise(i, 2)) / 3;
      expect(Math.abs(value - exact)).toBeLessThan(tolerance);
    }
  });

  test("numbers that bytes can express are exact, in float64 too", async () => {
    for (const dtype of ["float32", "float64"] as const) {
      const [one] = await trained(hook, 256, (i) => i - 100, dtype);
      expect(one).toEqual(Array.from({ length: 256 }, (_, i) => i - 100));
    }
  });

  test("zeros stay zeros", async () => {
    expect(await trained(hook, 3, () => 0)).toEqual([
      [0, 0, 0],
      [0, 0, 0],
      [0, 0, 0],
    ]);
  });

  test("all ranks get a NaN of one", async () => {
    const all = await trained(hook, 3, (i, rank) => (rank === 1 && i === 2 ? Number.NaN : 1));
    for (const values of all) expect(values).toEqual([Number.NaN, Number.NaN, Number.NaN]);
  });
});

describe("quantizationPerChannelHook", () => {
  test("small gradients beside large ones lose less", async () => {
    const gradient = (i: number) => (i < 512 ? 1000 : 0.01) * noise(i, 1);
    const lossOf = ([values = []]: number[][]) => {
      return Math.max(...values.slice(512, 1024).map((value, i) => Math.abs(value - gradient(512 + i))));
    };
    expect(lossOf(await trained(quantizationPerTensorHook, 1024, gradient))).toBeGreaterThan(5e-3);
    expect(lossOf(await trained(quantizationPerChannelHook, 1024, gradient))).toBeLessThan(5e-5);
  });

  test("with channels of another size", async () => {
    const hook: CommHook<HookGroup> = (group, bucket) => quantizationPerChannelHook(group, bucket, 4);
    const gradient = (i: number) => 10 ** Math.floor(i / 4) * ((i % 4) + 1);
    const [one = []] = await trained(hook, 12, gradient);
    for (const [i, value] of one.entries()) expect(value / gradient(i)).toBeCloseTo(1, 2);
  });

  test.each([0, -1, 1.5])("a bucketSize of %d is refused", async (bucketSize) => {
    const run = trained(
      (group, bucket) => quantizationPerChannelHook(group, bucket, bucketSize),
      4,
      () => 1,
    );
    await expect(run).rejects.toThrow(`bucketSize must be a positive integer, got ${bucketSize}`);
  });
});
