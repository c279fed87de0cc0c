import { describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../../errors/index.ts";
import { tensor, viewTensor } from "../../tensor/index.ts";
import { localRanks } from "../../testing/index.ts";
import { type CommHook, isPipelined } from "../comm-hook.ts";
import { DistributedDataParallel } from "../distributed-data-parallel.ts";
import { bf16CompressWrapper, fp16CompressWrapper } from "./compress-wrappers.ts";
import { allReduceHook, bf16CompressHook, fp16CompressHook } from "./default-hooks.ts";
import { noise, train } from "./fixtures/given-gradients.ts";

function trained<S>(state: S, hook: CommHook<S>) {
  return localRanks(2, ({ rank }) =>
    train({
      shapes: { a: [3, 5], b: [7] },
      steps: 2,
      gradient: (i, name, step) => noise(i, rank + name.length + step),
      register: (model) => model.registerCommHook(state, hook),
    }),
  );
}

describe.each([
  ["fp16CompressWrapper", fp16CompressWrapper, fp16CompressHook, "float16", 2 ** -11],
  ["bf16CompressWrapper", bf16CompressWrapper, bf16CompressHook, "bfloat16", 2 ** -8],
] as const)("%s", (name, wrapper, compressHook, dtype, precision) => {
  test("of allReduceHook is the hook of that dtype", async () => {
    const wrapped = await trained(undefined, wrapper(allReduceHook));
    expect(wrapped).toEqual(await trained(undefined, compressHook));
    const exact = await trained(undefined, allReduceHook);
    expect(wrapped).not.toEqual(exact);
    for (const [i, value] of (wrapped[0]?.[1]?.a ?? []).entries()) {
      expect(Math.abs(value - (exact[0]?.[1]?.a?.[i] ?? Number.NaN))).toBeLessThan(2 * precision);
    }
  });

  test("the hook gets the state, and the bucket in that dtype; its result may be a list", async () => {
    const seen: unknown[] = [];
    const hook: CommHook<string> = async (state, bucket) => {
      const { dtype, length } = viewTensor(bucket.dense());
      const shapes = bucket.gradients().map((each) => ("shape" in each ? each.shape : undefined));
      seen.push({ state, dtype, ofBucket: bucket.dtype, length, shapes, last: bucket.isLast() });
      return [bucket.dense()];
    };
    await localRanks(1, () =>
      train({
        shapes: { a: [3, 5], b: [7] },
        steps: 1,
        gradient: (i) => i,
        register: (model) => model.registerCommHook("state", wrapper(hook)),
      }),
    );
    const length = 22;
    expect(seen).toEqual([{ state: "state", dtype, ofBucket: dtype, length, shapes: [[3, 5], [7]], last: true }]);
  });

  test("a result of another dtype is refused", async () => {
    const run = trained(
      undefined,
      wrapper(async (_, bucket) => new Float32Array(bucket.length)),
    );
    await expect(run).rejects.toThrow(new RegExp(`22 elements of ${dtype}, got 22 of float32`));
  });

  test("complex gradients are refused, by the hook of that dtype too", async () => {
    for (const hook of [wrapper(allReduceHook), compressHook]) {
      const run = localRanks(1, async () => {
        const complex = () => tensor([1, 2], { dtype: "complex64" });
        const model = await DistributedDataParallel.create({ parameters: [{ name: "phase", data: complex() }] });
        model.registerCommHook(undefined, hook);
        await model.step((pass) => pass.ready("phase", complex()));
      });
      await expect(run).rejects.toThrow(new RegExp(`of ${dtype}: it takes gradients of float32.*of complex64`));
    }
  });

  test("several buckets may be in flight if the hook allows that", () => {
    const unmarked: CommHook = async (_, bucket) => bucket.buffer();
    expect(isPipelined(wrapper(allReduceHook))).toBe(true);
    expect(isPipelined(wrapper(unmarked))).toBe(false);
  });

  test("takes a hook only", () => {
    const wrap = () => wrapper(undefined as unknown as CommHook);
    expect(wrap).toThrow(InvalidArgumentError);
    expect(wrap).toThrow(`${name}: hook must be a communication hook such as allReduceHook, got undefined`);
  });
});
