import { beforeAll, describe, expect, test } from "bun:test";
import * as jax from "@jax-js/jax";
import type { DistError } from "../../errors/index.ts";
import { localRanks } from "../../testing/index.ts";
import { dataParallel } from "./jax.ts";

// Backend `fake`, in one process; two processes train in test/ddp.

const np = jax.numpy;

beforeAll(async () => {
  await jax.init("cpu");
  jax.defaultDevice("cpu");
});

const two = async <T>(body: (rank: number) => Promise<T>): Promise<[T, T]> =>
  (await localRanks(2, ({ rank }) => body(rank))) as [T, T];

/** What both ranks throw. */
const failures = (body: (rank: number) => Promise<unknown>) =>
  two((rank) =>
    body(rank).then(
      () => undefined,
      (error: DistError) => error,
    ),
  );

describe("parameters", () => {
  test("those of rank 0, in a tree of the same structure", async () => {
    const results = await two(async (rank) => {
      const initial = {
        layers: [
          {
            w: np.array([
              [rank, 2],
              [3, 4],
            ]),
          },
          { w: np.array([rank, 5]) },
        ],
        scale: np.array(rank + 7),
      };
      const { params, ddp } = await dataParallel(jax, initial);
      expect(ddp.parameters.map(({ name, shape }) => [name, ...shape])).toEqual([
        ["layers.0.w", 2, 2],
        ["layers.1.w", 2],
        ["scale"],
      ]);
      return [params.layers[0]?.w.js(), params.layers[1]?.w.js(), params.scale.js()];
    });
    for (const result of results)
      expect(result).toEqual([
        [
          [0, 2],
          [3, 4],
        ],
        [0, 5],
        7,
      ]);
  });

  test("they have one reference, and those that were given none", async () => {
    await two(async (rank) => {
      const given = np.array([rank, 1, 2]);
      const { params } = await dataParallel(jax, [given]);
      expect(params[0]?.refCount).toBe(1);
      if (rank > 0) expect(given.refCount).toBe(0);
    });
  });

  test.each(["float16", "float32", "float64"] as const)("%s", async (dtype) => {
    const results = await two(async (rank) => {
      const ddp = await dataParallel(jax, { w: np.array([rank + 1, 2], { dtype: np[dtype] }) });
      const grads = await ddp.average({ w: np.array([rank, 0.5 + rank], { dtype: np[dtype] }) });
      expect(grads.w.dtype).toBe(np[dtype]);
      return [ddp.params.w.js(), grads.w.js()];
    });
    for (const result of results)
      expect(result).toEqual([
        [1, 2],
        [0.5, 1],
      ]);
  });
});

describe("average", () => {
  test("of gradients in a tree, whatever the order of its keys", async () => {
    const results = await two(async (rank) => {
      const ddp = await dataParallel(jax, { a: np.ones([2]), b: np.zeros([1, 3]) });
      const seen: unknown[] = [];
      for (const step of [1, 2, 3]) {
        const grads = await ddp.average({ b: np.full([1, 3], rank * step), a: np.array([step, rank]) });
        expect(Object.keys(grads)).toEqual(["b", "a"]);
        expect([grads.a.refCount, grads.b.refCount]).toEqual([1, 1]);
        seen.push(grads.a.js(), grads.b.js());
      }
      return seen;
    });
    const expected = [1, 2, 3].flatMap((step) => [[step, 0.5], [Array(3).fill(step / 2)]]);
    for (const result of results) expect(result).toEqual(expected);
  });

  test("of what jax.valueAndGrad gives; an unused parameter has zeros", async () => {
    const results = await two(async (rank) => {
      const ddp = await dataParallel(jax, { w: np.array([1, 2]), unused: np.array([3, 4]) });
      const loss = (params: { w: jax.Array; unused: jax.Array }, x: jax.Array) => {
        params.unused.dispose();
        return np.sum(params.w.mul(x));
      };
      const [value, local] = jax.valueAndGrad(loss)(ddp.params, np.array([rank, 4]));
      const grads = await ddp.average(local);
      return [value.js(), grads.w.js(), grads.unused.js()];
    });
    expect(results).toEqual([
      [8, [0.5, 4], [0, 0]],
      [9, [0.5, 4], [0, 0]],
    ]);
  });

  test("results are on the device of the gradients", async () => {
    await jax.init("cpu", "wasm");
    await two(async () => {
      const w = await jax.devicePut(np.array([1, 2, 3]), "wasm");
      const ddp = await dataParallel(jax, { w });
      expect(ddp.params.w.device).toBe("wasm");
      const grads = await ddp.average({ w: await jax.devicePut(np.array([1, 2, 3]), "wasm") });
      expect(grads.w.device).toBe("wasm");
    });
  });

  test("results are copies, which later iterations do not change", async () => {
    await two(async () => {
      const ddp = await dataParallel(jax, [np.ones([2])]);
      const grads = [];
      for (const step of [1, 2, 3, 4]) grads.push(...(await ddp.average([np.array([step, 0])])));
      expect(grads.map((each) => each.js())).toEqual([
        [1, 0],
        [2, 0],
        [3, 0],
        [4, 0],
      ]);
    });
  });
});

test("broadcast copies arrays of any dtype from rank 0", async () => {
  const results = await two(async (rank) => {
    const ddp = await dataParallel(jax, [np.ones([2])]);
    const state = {
      steps: np.array([rank + 3, 1], { dtype: np.int32 }),
      on: np.array([rank === 0, rank === 1]),
      means: [np.array([[rank, 2]]), np.array([rank + 8], { dtype: np.uint32 })],
    };
    const copied = await ddp.broadcast(state);
    expect(copied.steps.refCount).toBe(1);
    return [copied.steps.js(), copied.on.js(), copied.means.map((each) => each.js())];
  });
  for (const result of results)
    expect(result).toEqual([
      [3, 1],
      [true, false],
      [[[0, 2]], [8]],
    ]);
});

describe("errors", () => {
  test.each([
    ["no namespace", () => dataParallel({} as typeof jax, []), "jax must be the namespace of @jax-js/jax"],
    [
      "a number",
      () => dataParallel(jax, { a: { b: 3 } }),
      "params must be a pytree: arrays of jax-js in lists and plain objects; a.b is number 3",
    ],
    ["null", () => dataParallel(jax, null), "it is null"],
    ["no parameters", () => dataParallel(jax, {}), "doesn't have any parameters that require a gradient"],
    [
      "integers",
      () => dataParallel(jax, [np.array([1], { dtype: np.int32 })]),
      "params: 0 is int32, but only floating point arrays have gradients",
    ],
    [
      "one name",
      () => dataParallel(jax, { "a.b": np.ones([1]), a: { b: np.ones([1]) } }),
      'two tensors of the model are named "a.b"',
    ],
  ])("%s", async (_, given, message) => {
    for (const error of await failures(async () => given())) expect(error?.message).toContain(message);
  });

  test.each([
    ["missing", { a: [2] }, "grads must have the structure of the parameters: there is no b"],
    ["too many", { a: [2], b: [3], c: [1] }, "there are 3 arrays for 2 parameters"],
    [
      "another shape",
      { a: [2], b: [1, 3] },
      "grads: b is float32 of shape [1, 3], its parameter is float32 of shape [3]",
    ],
  ])("gradients: %s", async (_, shapes, message) => {
    const errors = await failures(async () => {
      const ddp = await dataParallel(jax, { a: np.ones([2]), b: np.ones([3]) });
      const grads = Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, np.ones(shape)]));
      await ddp.average(grads);
    });
    for (const error of errors) expect(error?.message).toContain(message);
  });

  test("ranks with other parameters", async () => {
    const errors = await failures((rank) => dataParallel(jax, { [`w${rank}`]: np.ones([2]) }));
    for (const error of errors) expect(error).toMatchObject({ code: "PARAMETERS_DIFFER" });
  });

  test("noSync, and a join that would copy parameters", async () => {
    const errors = await failures(async () => {
      const ddp = await dataParallel(jax, [np.ones([2])]);
      await ddp.ddp.noSync(() => ddp.average([np.ones([2])]));
    });
    for (const error of errors) expect(error?.message).toContain("add gradients up by jax.numpy");
    const joined = await failures(async () => {
      const ddp = await dataParallel(jax, [np.ones([2])]);
      await ddp.ddp.join(() => ddp.average([np.ones([2])]));
    });
    for (const error of joined) expect(error?.message).toContain("0 cannot be copied after a join()");
  });
});
