import { afterEach, beforeAll, describe, expect, spyOn, test } from "bun:test";
import { dirname, join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import { setWasmPaths } from "@tensorflow/tfjs-backend-wasm";
import type { DistError } from "../../errors/index.ts";
import { localRanks } from "../../testing/index.ts";
import {
  dataParallel,
  type TensorFlowDataParallel,
  type TensorFlowOptions,
  type TensorFlowParameters,
} from "./tfjs.ts";
import { peek } from "./tfjs-memory.ts";

// Backend `fake`, in one process. Names of variables are unique in a process, so mostly one rank; two processes train in
// test/ddp.

beforeAll(async () => {
  const folder = dirname(Bun.resolveSync("@tensorflow/tfjs-backend-wasm/package.json", import.meta.dir));
  setWasmPaths(`${join(folder, "dist")}/`);
  using _quiet = spyOn(console, "warn").mockImplementation(() => {});
  await tf.setBackend("wasm");
  await tf.setBackend("cpu");
  // Its first tensor has it print a greeting.
  tf.scalar(1).dispose();
});

afterEach(() => tf.disposeVariables());

const variable = (name: string, values: number[], trainable = true): tf.Variable<tf.Rank.R1> =>
  tf.tidy(() => tf.variable(tf.tensor1d(values), trainable, name));

/** A variable under another name: two ranks of one process have variables of different names. */
const called = (name: string, of: tf.Variable): tf.Variable =>
  new Proxy(of, {
    get(target, key) {
      const value: unknown = key === "name" ? name : Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });

/** Runs a rank with a model. */
async function withModel<T>(
  model: TensorFlowParameters,
  body: (ddp: TensorFlowDataParallel<typeof tf>) => Promise<T>,
  options: TensorFlowOptions = {},
): Promise<T> {
  const [value] = await localRanks(1, async () => body(await dataParallel(tf, model, options)));
  return value as T;
}

const valuesOf = (grads: tf.NamedTensorMap) =>
  Object.fromEntries(Object.entries(grads).map(([name, gradient]) => [name, [...gradient.dataSync()]]));

const failure = async (given: () => Promise<unknown>): Promise<DistError> => {
  const [error] = await localRanks(1, () =>
    given().then(
      () => undefined,
      (thrown: DistError) => thrown,
    ),
  );
  expect(error).toBeInstanceOf(Error);
  return error as DistError;
};

describe.each(["cpu", "wasm"])("on %s", (backend) => {
  beforeAll(() => tf.setBackend(backend));

  test("gradients of two variables may be one tensor", async () => {
    const [a, b] = [variable("a", [1, 2]), variable("b", [3, 4])];
    await withModel([a, b], async (ddp) => {
      const sum = () => tf.sum(tf.mul(tf.add(a, b), tf.tensor1d([5, 6]))) as tf.Scalar;
      const local = tf.variableGrads(sum, [a, b]);
      const isShared = local.grads.a?.dataId === local.grads.b?.dataId;
      expect(isShared).toBe(true);
      const { value, grads } = await ddp.variableGrads(sum);
      expect(value.dataSync()[0]).toBe(4 * 5 + 6 * 6);
      expect(valuesOf(grads)).toEqual({ a: [5, 6], b: [5, 6] });
      expect(grads.a?.shape).toEqual([2]);
    });
  });

  test("noSync adds gradients up, also those of one tensor", async () => {
    const [a, b] = [variable("a", [1, 2]), variable("b", [3, 4])];
    await withModel([a, b], async (ddp) => {
      const step = (x: number) => ddp.variableGrads(() => tf.sum(tf.mul(tf.add(a, b), x)) as tf.Scalar);
      await ddp.noSync(async () => {
        const { grads } = await step(1);
        expect(grads).toEqual({});
        expect(await ddp.minimize(tf.train.sgd(1), () => tf.sum(tf.mul(a, 10)) as tf.Scalar, true)).not.toBeNull();
      });
      expect([...a.dataSync()]).toEqual([1, 2]);
      const { grads } = await step(100);
      expect(valuesOf(grads)).toEqual({ a: [111, 111], b: [101, 101] });
      expect(valuesOf((await step(7)).grads)).toEqual({ a: [7, 7], b: [7, 7] });
    });
  });

  test("findUnusedParameters leaves out what no rank has used; otherwise that is an error that names it", async () => {
    const [a, b] = [variable("used", [1, 2]), variable("unused", [3, 4])];
    const loss = () => tf.sum(tf.square(a)) as tf.Scalar;
    await withModel(
      [a, b],
      async (ddp) => {
        for (const _ of [1, 2]) expect(valuesOf((await ddp.variableGrads(loss)).grads)).toEqual({ used: [2, 4] });
      },
      { findUnusedParameters: true },
    );
    const before = tf.memory().numTensors;
    const error = await failure(async () => (await dataParallel(tf, [a, b])).variableGrads(loss));
    expect(error.message).toContain("unused");
    expect(tf.memory().numTensors).toBe(before);
  });

  test("a static graph gives the same gradients in its first iteration as later", async () => {
    const [a, b] = [variable("a", [1, 2]), variable("b", [3, 4])];
    await withModel(
      [a, b],
      async (ddp) => {
        for (const x of [1, 2, 3]) {
          const { grads } = await ddp.variableGrads(() => tf.sum(tf.mul(tf.mul(a, b), x)) as tf.Scalar);
          expect(valuesOf(grads)).toEqual({ a: [3 * x, 4 * x], b: [x, 2 * x] });
        }
      },
      { staticGraph: true },
    );
  });

  test("tensors are neither lost nor left over", async () => {
    const a = variable("a", [1, 2]);
    await withModel([a, variable("mean", [5], false)], async (ddp) => {
      const optimizer = tf.train.sgd(0.5);
      const counts: number[] = [];
      for (let step = 0; step < 4; step++) {
        expect(await ddp.minimize(optimizer, () => tf.sum(tf.square(a)) as tf.Scalar)).toBeNull();
        counts.push(tf.memory().numTensors);
      }
      expect(counts).toEqual(Array(4).fill(counts[0]));
      expect([...a.dataSync()]).toEqual([0, 0]);
      const failing = () => {
        throw new Error("no loss");
      };
      await expect(ddp.variableGrads(failing)).rejects.toThrow("no loss");
      expect(tf.memory().numTensors).toBe(counts[0] ?? 0);
    });
  });
});

describe("memory", () => {
  beforeAll(() => tf.setBackend("cpu"));

  test("values are read where the backend has them", async () => {
    const a = variable("a", [1, 2]);
    expect(peek(tf, a)).toBe(peek(tf, a));
    await tf.setBackend("wasm");
    const b = variable("b", [3, 4]);
    const { HEAPU8 } = (tf.backend() as unknown as { wasm: { HEAPU8: Uint8Array } }).wasm;
    expect([...peek(tf, b)]).toEqual([3, 4]);
    expect(peek(tf, b).buffer).toBe(HEAPU8.buffer);
    // A tensor of the other backend is moved.
    expect([...peek(tf, a)]).toEqual([1, 2]);
    await tf.setBackend("cpu");
    expect([...peek(tf, b)]).toEqual([3, 4]);
  });

  test.each([true, false])(
    "gradientAsBucketView %p: on cpu, gradients are in a bucket or in memory of their own",
    async (view) => {
      const a = variable("a", [1, 2]);
      await withModel(
        [a],
        async (ddp) => {
          const step = (x: number) => ddp.variableGrads(() => tf.sum(tf.mul(a, x)) as tf.Scalar);
          // Buckets are new in the second iteration.
          await step(2);
          const { grads } = await step(3);
          const bucket = ddp.ddp.gradientBuffer("a") as Float32Array;
          expect(grads.a?.dataSync().buffer === bucket.buffer).toBe(view);
          expect([...(grads.a?.dataSync() ?? [])]).toEqual([3, 3]);
          await step(4);
          expect([...(grads.a?.dataSync() ?? [])]).toEqual(view ? [4, 4] : [3, 3]);
        },
        { gradientAsBucketView: view },
      );
    },
  );

  test("the heap of wasm may grow between iterations", async () => {
    await tf.setBackend("wasm");
    const a = variable("a", [1, 2]);
    await withModel([a], async (ddp) => {
      const heap = () => (tf.backend() as unknown as { wasm: { HEAPU8: Uint8Array } }).wasm.HEAPU8.buffer;
      const before = heap();
      for (const x of [1, 2, 3]) {
        const { grads } = await ddp.variableGrads(() =>
          tf.tidy(() => tf.sum(tf.add(tf.mul(a, x), tf.mean(tf.zeros([x * 6_000_000])))) as tf.Scalar),
        );
        expect(valuesOf(grads)).toEqual({ a: [x, x] });
      }
      expect(heap() === before).toBe(false);
    });
    await tf.setBackend("cpu");
  });

  test("what shared its values with a variable keeps them when those of rank 0 come", async () => {
    const values = tf.tensor1d([1, 2]);
    const a = tf.variable(values, true, "a");
    expect(a.dataId).toBe(values.dataId);
    await withModel([a], async (ddp) => {
      const [parameter] = ddp.ddp.parameters;
      const data = parameter?.source.data as Float32Array;
      parameter?.source.received?.(data.fill(9));
      expect([...a.dataSync()]).toEqual([9, 9]);
      expect([...values.dataSync()]).toEqual([1, 2]);
    });
  });
});

describe("errors", () => {
  test.each(["webgl", "webgpu"])("backend %s", async (name) => {
    const error = await failure(() => dataParallel({ ...tf, getBackend: () => name }, [variable("a", [1])]));
    expect(error).toMatchObject({ code: "INVALID_ARGUMENT", details: { argument: "tf" } });
    expect(error.message).toContain(`${name} cannot be read synchronously: await tf.setBackend("cpu")`);
  });

  test.each([
    ["no namespace", () => dataParallel({} as typeof tf, []), "tf must be the namespace of @tensorflow/tfjs"],
    ["no backend", () => dataParallel({ ...tf, getBackend: () => "" }, []), "await tf.setBackend"],
    [
      "no model",
      () => dataParallel(tf, 7 as never),
      "a model is a tf.LayersModel or a list of variables, got number 7",
    ],
    ["a tensor", () => dataParallel(tf, [tf.scalar(1)] as never), "a variable is a tf.Variable or a weight of a layer"],
    ["no variables", () => dataParallel(tf, []), "doesn't have any parameters that require a gradient"],
    [
      "a variable twice",
      () => {
        const a = variable("a", [1]);
        return dataParallel(tf, [a, a]);
      },
      'two variables are named "a", or one was given twice',
    ],
    [
      "int32",
      () => dataParallel(tf, [tf.variable(tf.tensor1d([1], "int32"), true, "count")]),
      "variable count is int32, but TensorFlow.js has gradients only for float32",
    ],
    [
      "a frozen string",
      () => dataParallel(tf, [variable("a", [1]), tf.variable(tf.tensor1d(["x"]), false, "text")]),
      "variable text is string, which cannot be copied between ranks; those of float32, int32, bool can",
    ],
    [
      "no optimizer",
      async () => (await dataParallel(tf, [variable("a", [1])])).minimize({} as tf.Optimizer, () => tf.scalar(1)),
      "optimizer must be a tf.Optimizer",
    ],
  ])("%s", async (_, given, message) => {
    const error = await failure(async () => given());
    expect(error.message).toContain(message);
  });

  test("ranks with other variables", async () => {
    const errors = await localRanks(2, ({ rank }) =>
      dataParallel(tf, [variable(`of ${rank}`, [1, 2])]).then(
        () => undefined,
        (error: DistError) => error,
      ),
    );
    for (const error of errors) expect(error).toMatchObject({ code: "PARAMETERS_DIFFER" });
  });

  test.each([true, false])(
    "int32 and bool variables are copied if they are not trainable; broadcastBuffers %p",
    async (broadcastBuffers) => {
      const seen = await localRanks(2, async ({ rank }) => {
        const a = variable(`a ${rank}`, [rank]);
        const count = tf.variable(tf.tensor1d([1 + rank, 2 + rank], "int32"), false, `count ${rank}`);
        const flag = tf.variable(tf.tensor1d([rank === 0, rank === 1], "bool"), false, `flag ${rank}`);
        const model = [called("a", a), called("count", count), called("flag", flag)];
        const ddp = await dataParallel(tf, model, { broadcastBuffers });
        expect(ddp.variables.map(({ name }) => name)).toEqual(["a"]);
        return [a, count, flag].map((each) => `${each.dtype} ${each.dataSync().join(" ")}`);
      });
      const ofRank0 = ["float32 0", "int32 1 2", "bool 1 0"];
      expect(seen).toEqual([ofRank0, ofRank0]);
    },
  );
});
