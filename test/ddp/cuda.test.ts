import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { emulatorEnv } from "../../src/backends/nccl/fixtures/emulator.ts";
import {
  allReduceHook,
  BuiltinCommHookType,
  broadcastCoalesced,
  type CommHook,
  DistributedDataParallel,
  fp16CompressWrapper,
  hookThenOptimizer,
  noopHook,
  PeriodicModelAverager,
  pipelined,
  powerSGDHook,
  quantizationPerChannelHook,
  verifyParamsAcrossProcesses,
} from "../../src/ddp/index.ts";
import * as dist from "../../src/index.ts";
import { faults } from "../../src/tensor/cuda/fixtures/cuda-emulator.ts";
import { type CudaTensor, cuda, type TensorLike } from "../../src/tensor/index.ts";
import { localRanks, spawnRanks } from "../../src/testing/index.ts";
import type { OnDevices } from "./fixtures/cuda-devices.ts";
import { cudaRanks, failure } from "./fixtures/cuda-ranks.ts";
import { numbers, places, type Trained, train, trainings } from "./fixtures/cuda-training.ts";
import type { Trouble, TroubleEnd } from "./fixtures/cuda-trouble.ts";
import type { CudaRank } from "./fixtures/cuda-waits.ts";

setDefaultTimeout(60_000);

// DistributedDataParallel with parameters on devices of the emulated CUDA driver, over a backend for ranks in one thread.

const before = faults();
afterAll(() => expect(faults()).toBe(before));

const program = new URL("./fixtures/cuda-training.ts", import.meta.url);

const onDevices = new URL("./fixtures/cuda-devices.ts", import.meta.url);
const failing = new URL("./fixtures/cuda-trouble.ts", import.meta.url);

const floats = (...values: number[]) => Float32Array.from(values);

const model = ({ on }: CudaRank) => ({ parameters: [{ name: "w", data: on(0, 0, 0, 0), shape: [2, 2] }] });
const average: CommHook = async (_, bucket) => {
  await bucket.group.allReduce(bucket.dense(), { op: dist.ReduceOp.AVG });
  return bucket.buffer();
};

describe("DDP on CUDA tensors", () => {
  describe.each([1, 2, 4])("%d ranks", (count) => {
    test.each(Object.entries(trainings))("have the averages of the host, %s", async (_, training) => {
      const expected = await localRanks(count, ({ rank }) => train(rank, places.host(rank), training));
      expect(await cudaRanks(count, ({ rank }) => train(rank, places.device(rank), training))).toEqual(expected);
      expect(await cudaRanks(count, ({ rank }) => train(rank, places.mixed(rank), training))).toEqual(expected);
    });

    test("in processes, over the emulated NCCL", async () => {
      const outcomes = await spawnRanks(count, program, { timeout: "50s", env: emulatorEnv() });
      expect(outcomes.map(({ error }) => error)).toEqual(outcomes.map(() => undefined));
      for (const [name, training] of Object.entries(trainings)) {
        const expected = await localRanks(count, ({ rank }) => train(rank, places.host(rank), training));
        for (const place of ["device", "mixed"]) {
          const results = outcomes.map(({ value }) => (value as Trained).results[`${place}, ${name}`]);
          expect([place, results]).toEqual([place, expected]);
        }
      }
      for (const { value } of outcomes) expect(value).toMatchObject({ large: [40_000], faults: "0 faults" });
    });
  });

  test("a parameter that only one rank has used gets its half on both", async () => {
    const seen = await cudaRanks(2, async ({ rank, on }) => {
      const parameters = [
        { name: "a", data: on(0) },
        { name: "b", data: on(0, 0) },
      ];
      const ddp = await DistributedDataParallel.create({ parameters }, { findUnusedParameters: true });
      const given = on(8, 6);
      await ddp.step((pass) => {
        pass.ready("a", on(rank));
        if (rank === 0) pass.ready("b", given);
      });
      expect(ddp.gradient("b") === given).toBe(rank === 0);
      return [await numbers(ddp.gradient("a")), await numbers(ddp.gradient("b"))];
    });
    expect(seen).toEqual([
      [[0.5], [4, 3]],
      [[0.5], [4, 3]],
    ]);
  });

  test.each(["float16", "bfloat16", "complex64"] as const)("the library divides gradients of %s", async (dtype) => {
    const ops: string[] = [];
    const seen = await cudaRanks(2, async ({ rank, group }) => {
      const from = (...values: number[]) => cuda.from(dist.tensor(values, { dtype }), { device: rank });
      const ddp = await DistributedDataParallel.create({ parameters: [{ name: "w", data: from(0, 0) }] });
      using _ = group.registerHook({ pre: ({ op }) => void ops.push(op) });
      const gradient = from(rank, 30000);
      await ddp.step((pass) => pass.ready("w", gradient));
      return numbers(gradient);
    });
    const large = dtype === "bfloat16" ? 29952 : 30000;
    expect(seen).toEqual([
      [0.5, large],
      [0.5, large],
    ]);
  });

  test("a gradient in the memory of its bucket is not copied", async () => {
    await cudaRanks(2, async ({ rank, on, group }) => {
      const sent: unknown[] = [];
      const model = { parameters: [{ name: "w", data: on(0, 0) }] };
      const ddp = await DistributedDataParallel.create(model, { gradientAsBucketView: true });
      ddp.registerCommHook(undefined, async (_, bucket) => {
        sent.push((bucket.buffer() as CudaTensor).ptr);
        await group.allReduce(bucket.dense(), { op: dist.ReduceOp.AVG });
        return bucket.buffer();
      });
      for (let i = 0; i < 3; i++) {
        await ddp.forward();
        const pass = ddp.backward();
        const view = ddp.gradientBuffer("w") as CudaTensor;
        view.copyFrom(floats(rank, i));
        pass.ready("w", view);
        await pass.finish();
        expect((ddp.gradient("w") as CudaTensor).ptr).toBe(view.ptr);
        expect(sent.at(-1)).toBe(view.ptr);
        expect(await numbers(view)).toEqual([0.5, i]);
      }
    });
  });

  test.each(["usual", "views"])("scalars, and parameters without elements: %s", async (way) => {
    const seen = await cudaRanks(2, async ({ rank, on }) => {
      const scalar = cuda.zeros("float32", [], { device: rank });
      const parameters = [
        { name: "scalar", data: scalar },
        { name: "empty", data: on() },
        { name: "alone", data: cuda.zeros("float64", [2, 0], { device: rank }) },
      ];
      const ddp = await DistributedDataParallel.create({ parameters }, { gradientAsBucketView: way === "views" });
      for (let i = 0; i < 2; i++) {
        await ddp.step((pass) => {
          pass.ready("alone", cuda.zeros("float64", [2, 0], { device: rank }));
          pass.ready("empty", on());
          pass.ready("scalar", on(rank).view([]));
        });
      }
      expect((ddp.gradient("scalar") as CudaTensor).shape).toEqual([]);
      return Promise.all(parameters.map(({ name }) => numbers(ddp.gradient(name))));
    });
    expect(seen).toEqual([
      [[0.5], [], []],
      [[0.5], [], []],
    ]);
  });

  test("tensors are compared and copied without a model", async () => {
    const seen = await cudaRanks(2, async ({ rank, group, on }) => {
      const tensors = [on(rank, 1), cuda.from(Int32Array.of(rank, 2, 3), { device: rank }), floats(rank), on(rank)];
      await broadcastCoalesced(group, tensors, 1000, 1);
      await verifyParamsAcrossProcesses(group, tensors);
      const shaped = verifyParamsAcrossProcesses(group, [on(1, 2, 3, 4).view(rank === 0 ? [2, 2] : [4])]);
      const differs = expect.objectContaining({ code: "PARAMETERS_DIFFER" });
      expect(await failure(shaped)).toEqual(differs);
      return Promise.all(tensors.map(numbers));
    });
    const expected = [[1, 1], [1, 2, 3], [1], [1]];
    expect(seen).toEqual([expected, expected]);
  });

  test("memory of another library can be a parameter and a gradient", async () => {
    const seen = await cudaRanks(2, async ({ rank, on }) => {
      const foreign = ({ ptr, byteLength, dtype, device }: CudaTensor) => ({
        [Symbol.for("c10d.tensor")]: () => ({ ptr, byteLength, dtype, device }),
      });
      const [weight, gradient] = [on(rank, rank), on(rank, 2)];
      const parameters = [{ name: "w", data: foreign(weight) as TensorLike }];
      const ddp = await DistributedDataParallel.create({ parameters });
      await ddp.step((pass) => pass.ready("w", foreign(gradient) as TensorLike));
      return [await numbers(weight), await numbers(gradient)];
    });
    expect(seen).toEqual([
      [
        [0, 0],
        [0.5, 2],
      ],
      [
        [0, 0],
        [0.5, 2],
      ],
    ]);
  });

  test("a sparse gradient in host memory beside parameters on a device", async () => {
    const seen = await cudaRanks(2, async ({ rank, on }) => {
      const parameters = [
        { name: "w", data: on(0) },
        { name: "rows", data: new Float32Array(6), shape: [3, 2], sparse: true },
      ];
      const ddp = await DistributedDataParallel.create({ parameters });
      const indices = BigInt64Array.of(BigInt(rank));
      const rows = dist.sparseTensor({ indices, values: floats(2, 4), shape: [3, 2], sparseDims: 1 });
      await ddp.step((pass) => {
        pass.ready("rows", rows);
        pass.ready("w", on(rank));
      });
      const sum = ddp.gradient("rows") as dist.SparseTensor;
      return [await numbers(ddp.gradient("w")), [...sum.indices].map(Number), [...sum.values]];
    });
    expect(seen[0]).toEqual([[0.5], [0, 1], [1, 2, 1, 2]]);
    expect(seen[1]).toEqual(seen[0]);
  });

  test("ranks with different numbers of inputs", async () => {
    const seen = await cudaRanks(3, async ({ rank, on }) => {
      const weight = on(rank);
      const ddp = await DistributedDataParallel.create({ parameters: [{ name: "w", data: weight }] });
      const averages: unknown[] = [];
      await ddp.join(async () => {
        for (let i = 0; i <= rank; i++) {
          await ddp.step((pass) => pass.ready("w", on(3)));
          averages.push(await numbers(ddp.gradient("w")));
          weight.copyFrom(floats(10 * i));
        }
      });
      return [averages, await numbers(weight)];
    });
    expect(seen).toEqual([
      [[[3]], [20]],
      [[[3], [2]], [20]],
      [[[3], [2], [1]], [20]],
    ]);
  });

  test("a model on two devices of each rank, over the emulated NCCL", async () => {
    const outcomes = await spawnRanks(2, onDevices, { timeout: "50s", env: emulatorEnv() });
    expect(outcomes.map(({ error }) => error)).toEqual([undefined, undefined]);
    const averages = [
      [0.5, 2],
      [0.5, 3],
    ];
    const model = [
      [0, 0],
      [0, 1],
    ];
    for (const { value } of outcomes) expect(value as OnDevices).toEqual({ averages, model, faults: "0 faults" });
  });

  /** What rank 0 and rank 1 are told. */
  const troubles: Readonly<Record<Trouble, readonly [code: RegExp, text: string][]>> = {
    device: [
      [/^(ABORTED|PEER_LOST)$/, "while averaging bucket"],
      [/^CUDA_CONTEXT_LOST$/, "CUDA_ERROR_ILLEGAL_ADDRESS"],
    ],
    gradient: [
      [/^(ABORTED|PEER_LOST)$/, "while averaging bucket 1 (a)"],
      [/^REDUCTION_NOT_FINISHED$/, "Parameters which did not receive grad for rank 1: a (index 0)."],
    ],
    body: [
      [/^(ABORTED|PEER_LOST)$/, "while averaging bucket"],
      [/^undefined$/, "no more memory"],
    ],
  };
  test.each(Object.entries(troubles))("a rank that fails, over the emulated NCCL: %s", async (trouble, expected) => {
    const outcomes = await spawnRanks(2, failing, { timeout: "50s", env: emulatorEnv(), args: { trouble } });
    for (const [rank, { error, value }] of outcomes.entries()) {
      expect(error).toBeUndefined();
      const [code, text] = expected[rank] ?? [];
      const { code: seen, message } = value as TroubleEnd;
      expect(String(seen)).toMatch(code ?? "");
      expect(message).toContain(text ?? "");
    }
  });

  test.each([false, true])(
    "training goes on in another group after a failure, gradientAsBucketView: %p",
    async (views) => {
      const seen = await cudaRanks(2, async (each) => {
        const all = async () => (await dist.newGroup([0, 1])) as dist.ProcessGroup;
        const group = await all();
        const ddp = await DistributedDataParallel.create(model(each), { group, gradientAsBucketView: views });
        let fails = each.rank === 0;
        ddp.registerCommHook(undefined, async (state, bucket) => {
          if (fails) throw new Error("once");
          return await average(state, bucket);
        });
        const step = () => ddp.step((pass) => pass.ready("w", each.on(each.rank, 1, 2, 3)));
        expect((await failure(step())).message).toContain("once");
        fails = false;
        expect(await failure(step())).toMatchObject({ code: "REDUCTION_FAILED" });
        ddp.resetState();
        ddp.updateProcessGroup(await all());
        await step();
        return numbers(ddp.gradient("w"));
      });
      expect(seen).toEqual([
        [0.5, 1, 2, 3],
        [0.5, 1, 2, 3],
      ]);
    },
  );

  test("memory of buckets that are not needed any more is given back", async () => {
    await cudaRanks(2, async ({ rank, on }) => {
      const ddp = await DistributedDataParallel.create({ parameters: [{ name: "w", data: on(0) }] });
      const blocks: number[] = [];
      for (let i = 0; i < 8; i++) {
        ddp.reducer.setMixedPrecisionParamDtype("float32");
        using gradient = on(i);
        await ddp.step((pass) => pass.ready("w", gradient));
        blocks.push(cuda.memoryStats(rank).blocks);
      }
      // Memory of other tests may be collected meanwhile.
      expect(Math.max(...blocks)).toBe(blocks[0] ?? 0);
    });
  });
});

describe("hooks on CUDA tensors", () => {
  const seen: unknown[] = [];
  const optimizer = {
    stepParameter: (_: unknown, gradient: unknown) => void seen.push((gradient as CudaTensor).shape),
  };
  const hooks: Readonly<Record<string, CommHook>> = {
    "one that averages": average,
    "one that is pipelined": pipelined((state, bucket) => average(state, bucket)),
    "one that exchanges each gradient": async (_, bucket) => {
      for (const gradient of bucket.gradients()) {
        expect((gradient as CudaTensor).shape).toEqual([2, 2]);
        await bucket.group.allReduce(gradient as TensorLike, { op: dist.ReduceOp.AVG });
      }
      return bucket.buffer();
    },
    "one that gives another tensor": async (state, bucket) => {
      const copy = cuda.from(bucket.dense(), { device: bucket.device });
      await average(state, bucket);
      copy.copyFrom(bucket.dense());
      return copy;
    },
    "one that uses its stream": async (state, bucket) => {
      expect(bucket.stream?.device).toEqual(bucket.device);
      expect(cuda.currentStream(bucket.device) === bucket.stream).toBe(true);
      return await average(state, bucket);
    },
    allReduceHook: allReduceHook as CommHook,
    hookThenOptimizer: hookThenOptimizer(average, optimizer),
  };

  test.each(Object.entries(hooks))("%s", async (_, hook) => {
    const averages = await cudaRanks(2, async (each) => {
      const ddp = await DistributedDataParallel.create(model(each));
      ddp.registerCommHook(undefined, hook);
      const gradients: unknown[] = [];
      for (let i = 0; i < 2; i++) {
        await ddp.step((pass) => pass.ready("w", each.on(each.rank, 2, 3, i)));
        gradients.push(await numbers(ddp.gradient("w")));
      }
      return gradients;
    });
    const expected = [0, 1].map((i) => [0.5, 2, 3, i]);
    expect(averages).toEqual([expected, expected]);
    expect(seen.every((shape) => String(shape) === "2,2")).toBe(true);
  });

  test("one that exchanges nothing", async () => {
    const own = await cudaRanks(2, async (each) => {
      const ddp = await DistributedDataParallel.create(model(each));
      ddp.registerCommHook(undefined, noopHook);
      await ddp.step((pass) => pass.ready("w", each.on(each.rank, 2, 3, 4)));
      return numbers(ddp.gradient("w"));
    });
    expect(own).toEqual([
      [0, 2, 3, 4],
      [1, 2, 3, 4],
    ]);
  });

  test("one whose result is in host memory", async () => {
    const failures = await cudaRanks(2, async (each) => {
      const ddp = await DistributedDataParallel.create(model(each));
      ddp.registerCommHook(undefined, async () => floats(1, 2, 3, 4));
      return failure(ddp.step((pass) => pass.ready("w", each.on(1, 2, 3, 4))));
    });
    for (const [rank, { message }] of failures.entries()) {
      expect(message).toContain(`bucket 0 (w) needs a tensor on cuda:${rank}, got one on cpu`);
    }
  });

  const computing: Readonly<Record<string, (ddp: DistributedDataParallel) => void>> = {
    FP16_COMPRESS: (ddp) => ddp.registerBuiltinCommHook(BuiltinCommHookType.FP16_COMPRESS),
    powerSGDHook: (ddp) => ddp.registerCommHook({} as never, powerSGDHook),
    quantizationPerChannelHook: (ddp) => ddp.registerCommHook(undefined, quantizationPerChannelHook),
    fp16CompressWrapperHook: (ddp) => ddp.registerCommHook(undefined, fp16CompressWrapper(average)),
    hookThenOptimizerHook: (ddp) =>
      ddp.registerCommHook(undefined, hookThenOptimizer(fp16CompressWrapper(average), optimizer)),
  };
  test.each(Object.entries(computing))("%s is refused when it is registered", async (name, register) => {
    await cudaRanks(1, async (each) => {
      const ddp = await DistributedDataParallel.create(model(each));
      const refused = failure((async () => register(ddp))());
      expect(await refused).toMatchObject({
        name: "UnsupportedOperationError",
        message: expect.stringContaining(`hook ${name}: w is on cuda:0`),
      });
    });
  });
});

describe("what is refused on CUDA tensors, before anything is sent", () => {
  /** Fails unless nothing is sent meanwhile. */
  async function silently<T>(group: dist.ProcessGroup, body: () => Promise<T>): Promise<T> {
    const ops: string[] = [];
    using _ = group.registerHook({ pre: ({ op }) => void ops.push(op) });
    const result = await body();
    expect(ops).toEqual([]);
    return result;
  }

  test("a group without a backend for the host", async () => {
    await cudaRanks(
      2,
      async (each) => {
        const refused = silently(each.group, () => failure(DistributedDataParallel.create(model(each))));
        expect((await refused).message).toContain(
          'has no backend for cpu tensors, by which ranks compare their models and agree on buckets; make the group with both, for instance "cpu:gloo,cuda:nccl"',
        );
      },
      "cuda:staged-cuda",
    );
  });

  test("a parameter on a device that the group does not use", async () => {
    await cudaRanks(2, async ({ group }) => {
      const parameters = [{ name: "w", data: cuda.zeros("float32", 2, { device: 3 }) }];
      const refused = silently(group, () => failure(DistributedDataParallel.create({ parameters })));
      expect((await refused).message).toContain("has no backend for cuda:3 tensors");
    });
  });

  test("ranks that were not compared, unless a hook averages", async () => {
    const averages = await cudaRanks(2, async (each) => {
      const ddp = await DistributedDataParallel.create(model(each), { initSync: false });
      const step = () => ddp.step((pass) => pass.ready("w", each.on(each.rank, 1, 2, 3)));
      const refused = await silently(each.group, () => failure(step()));
      expect(refused.name).toBe("UnsupportedOperationError");
      expect(refused.message).toStartWith("averaging gradients: w is on cuda:");
      expect(refused.message).toContain("(initSync: false), divide before they sum");
      ddp.registerCommHook(undefined, average);
      await step();
      return numbers(ddp.gradient("w"));
    });
    expect(averages).toEqual([
      [0.5, 1, 2, 3],
      [0.5, 1, 2, 3],
    ]);
  });

  test("the average of ranks that were not compared, in a hook", async () => {
    await cudaRanks(2, async (each) => {
      const ddp = await DistributedDataParallel.create(model(each), { initSync: false });
      ddp.registerCommHook(undefined, allReduceHook);
      const refused = await silently(each.group, () =>
        failure(ddp.step((pass) => pass.ready("w", each.on(1, 1, 1, 1)))),
      );
      expect(refused).toMatchObject({
        name: "UnsupportedOperationError",
        message: expect.stringContaining("allReduceHook: w"),
      });
    });
  });

  test("noSync(), and the division by the ranks that are left", async () => {
    await cudaRanks(2, async (each) => {
      const ddp = await DistributedDataParallel.create(model(each));
      let hasRun = false;
      const accumulate = () =>
        ddp.noSync(() => {
          hasRun = true;
        });
      const join = async () => ddp.join(() => {}, { divideByInitialWorldSize: false });
      for (const refused of [accumulate, join]) {
        expect((await silently(each.group, () => failure(refused()))).name).toBe("UnsupportedOperationError");
      }
      expect(hasRun).toBe(false);
    });
  });

  test("the average of a model", async () => {
    await cudaRanks(2, async (each) => {
      const ddp = await DistributedDataParallel.create(model(each));
      await ddp.step((pass) => pass.ready("w", each.on(1, 2, 3, 4)));
      const averager = new PeriodicModelAverager({ period: 2 });
      const refused = silently(each.group, () => failure(averager.averageParameters(ddp.parameters)));
      expect(await refused).toMatchObject({
        name: "UnsupportedOperationError",
        message: expect.stringContaining("data of w is on cuda:"),
      });
    });
  });

  test("the second use of a parameter, in a static graph", async () => {
    await cudaRanks(1, async (each) => {
      const ddp = await DistributedDataParallel.create(model(each), { staticGraph: true });
      await ddp.step(async (pass) => {
        const gradient = each.on(1, 2, 3, 4);
        pass.ready("w", gradient);
        const second = failure((async () => pass.ready("w", each.on(1, 1, 1, 1)))());
        expect(await second).toMatchObject({ name: "UnsupportedOperationError" });
        expect(await numbers(gradient)).toEqual([1, 2, 3, 4]);
      });
    });
  });

  test("sparse gradients, and another dtype for the exchange", async () => {
    await cudaRanks(1, async (each) => {
      const [w] = model(each).parameters;
      const sparse = DistributedDataParallel.create({ parameters: [{ name: "w", data: each.on(1), sparse: true }] });
      expect(await failure(sparse)).toMatchObject({ name: "UnsupportedOperationError" });
      const ddp = await DistributedDataParallel.create({ parameters: w === undefined ? [] : [w] });
      const convert = failure((async () => ddp.reducer.setMixedPrecisionParamDtype("float16"))());
      expect(await convert).toMatchObject({ name: "UnsupportedOperationError" });
      ddp.reducer.setMixedPrecisionParamDtype("float32");
    });
  });

  test("a gradient in other memory than its parameter's; the right one can still be given", async () => {
    await cudaRanks(1, async (each) => {
      const ddp = await DistributedDataParallel.create(model(each));
      await ddp.step(async (pass) => {
        const host = failure((async () => pass.ready("w", floats(1, 2, 3, 4)))());
        const text = "Expected a dense gradient of 4 elements of float32 on cuda:0 for parameter w, got memory of";
        expect(await host).toMatchObject({ code: "INVALID_ARGUMENT", message: `${text} the host` });
        const other = cuda.zeros("float32", 4, { device: 1 });
        const wrong = failure((async () => pass.ready("w", other))());
        expect(await wrong).toMatchObject({ code: "INVALID_ARGUMENT", message: `${text} cuda:1` });
        pass.ready("w", each.on(1, 2, 3, 4));
      });
    });
  });
});
