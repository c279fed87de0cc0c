import { describe, expect, spyOn, test } from "bun:test";
import * as dist from "../index.ts";
import { localRanks } from "../testing/index.ts";
import type { DataParallelOptions } from "./ddp-options.ts";
import { DistributedDataParallel } from "./distributed-data-parallel.ts";
import type { TrainedParameter } from "./parameter.ts";

const floats = (...values: number[]) => Float32Array.from(values);
const numbers = (value: unknown) => (value === undefined ? undefined : Array.from(value as Float32Array));

/** The code and message of what a promise rejects with. */
async function failure(promise: Promise<unknown>): Promise<{ readonly code: string; readonly message: string }> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof dist.DistError)) throw new Error(`no DistError, but ${String(error)}`);
  return { code: error.code, message: error.message };
}

const model = (rank = 0): { readonly parameters: TrainedParameter[] } => ({
  parameters: [
    { name: "weight", data: floats(rank, 1, 2) },
    { name: "bias", data: floats(rank) },
  ],
});

describe("DistributedDataParallel", () => {
  test("all ranks begin with the parameters and buffers of rank 0, in whatever form they are", async () => {
    const seen = await localRanks(3, async ({ rank }) => {
      const received: number[][] = [];
      const half = dist.tensor([rank, 2], { dtype: "bfloat16" });
      const frozen = BigInt64Array.of(BigInt(rank));
      const mean = floats(rank);
      await DistributedDataParallel.create({
        parameters: [
          ...model(rank).parameters,
          { name: "half", data: half },
          { name: "frozen", data: frozen, requiresGrad: false },
          {
            name: "copied",
            get data() {
              return floats(rank, rank);
            },
            received: (values) => received.push(numbers(values) ?? []),
          },
        ],
        buffers: [{ name: "mean", data: mean }],
      });
      return { half: half.toNumbers(), frozen: Number(frozen[0]), mean: mean[0], received };
    });
    expect(seen).toEqual([
      { half: [0, 2], frozen: 0, mean: 0, received: [] },
      { half: [0, 2], frozen: 0, mean: 0, received: [[0, 0]] },
      { half: [0, 2], frozen: 0, mean: 0, received: [[0, 0]] },
    ]);
  });

  test.each<[string, DataParallelOptions]>([
    ["copied", {}],
    ["as bucket views", { gradientAsBucketView: true }],
    ["of a static graph", { staticGraph: true }],
    ["in buckets of one parameter each", { bucketCapMbList: [1e-6] }],
  ])("gradients are averaged, %s", async (_, options) => {
    const seen = await localRanks(4, async ({ rank }) => {
      const ddp = await DistributedDataParallel.create(model(), options);
      const all: unknown[] = [];
      for (let i = 0; i < 3; i++) {
        const weight = floats(rank, 10 * rank, i);
        const result = await ddp.step((pass) => {
          pass.ready("bias", floats(rank * 2));
          pass.ready(0, weight);
          return "loss";
        });
        all.push([result, numbers(ddp.gradient("weight")), numbers(ddp.gradient("bias"))]);
        // Without views, the tensor that was given holds the average.
        expect(ddp.gradient("weight") === weight).toBe(options.gradientAsBucketView !== true);
      }
      return all;
    });
    const expected = [0, 1, 2].map((i) => ["loss", [1.5, 15, i], [3]]);
    expect(seen).toEqual([expected, expected, expected, expected]);
  });

  test("gradients that are computed in the buckets' memory are not copied", async () => {
    /** What has been copied from, by the method that all TypedArrays share. */
    const copied: ArrayBufferLike[] = [];
    const shared = Object.getPrototypeOf(Float32Array.prototype) as Float32Array;
    const { set } = shared;
    const spy = spyOn(shared, "set").mockImplementation(function (this: Float32Array, from, start) {
      if (from instanceof Float32Array) copied.push(from.buffer);
      return set.call(this, from, start ?? 0);
    });
    try {
      await localRanks(2, async ({ rank }) => {
        const ddp = await DistributedDataParallel.create(model(), { gradientAsBucketView: true });
        for (let i = 0; i < 3; i++) {
          const [bias, weight] = await ddp.step((pass) => {
            copied.length = 0;
            const buffers = ["bias", "weight"].map((name) => {
              const buffer = ddp.gradientBuffer(name) as Float32Array;
              pass.ready(name, buffer.fill(rank + i));
              return buffer;
            });
            for (const { buffer } of buffers) expect(copied).not.toContain(buffer);
            return buffers as [Float32Array, Float32Array];
          });
          expect(numbers(weight)).toEqual([i + 0.5, i + 0.5, i + 0.5]);
          expect(numbers(bias)).toEqual([i + 0.5]);
          const average = ddp.gradient("weight") as Float32Array;
          expect([average.buffer, average.byteOffset]).toEqual([weight.buffer, weight.byteOffset]);
        }
      });
    } finally {
      spy.mockRestore();
    }
  });

  test("memory of buckets from before they were rebuilt still counts as a gradient", async () => {
    await localRanks(2, async ({ rank }) => {
      const ddp = await DistributedDataParallel.create(model(), { gradientAsBucketView: true });
      const old = ddp.gradientBuffer("weight") as Float32Array;
      for (let i = 0; i < 3; i++) {
        old.fill(rank);
        await ddp.step((pass) => {
          pass.ready("weight", old);
          pass.ready("bias", floats(0));
        });
        expect(numbers(ddp.gradient("weight"))).toEqual([0.5, 0.5, 0.5]);
      }
    });
  });

  test("gradients of every dtype that can have some", async () => {
    await localRanks(2, async ({ rank }) => {
      const dtypes = ["float64", "float16", "bfloat16", "complex64", "complex128"] as const;
      const parameters = dtypes.map((dtype) => ({ name: dtype, data: dist.empty(dtype, [3]) }));
      const ddp = await DistributedDataParallel.create({ parameters });
      await ddp.step((pass) => {
        for (const dtype of dtypes) {
          const isComplex = dtype.startsWith("complex");
          const values = isComplex ? [rank, 1, rank, 2, rank, 3] : [rank, 1, 3];
          pass.ready(dtype, dist.tensor(values, { dtype }));
        }
      });
      for (const dtype of dtypes) {
        const average = ddp.gradient(dtype) as dist.Tensor;
        const expected = dtype.startsWith("complex") ? [0.5, 1, 0.5, 2, 0.5, 3] : [0.5, 1, 3];
        expect(average.toNumbers()).toEqual(expected);
      }
    });
  });

  test("noSync() adds gradients up, also those of parameters that the next iteration does not use", async () => {
    await localRanks(2, async ({ rank }) => {
      for (const options of [{}, { gradientAsBucketView: true }]) {
        const ddp = await DistributedDataParallel.create(model(), { ...options, findUnusedParameters: true });
        await ddp.noSync(async () => {
          for (let i = 0; i < 2; i++) {
            await ddp.step((pass) => {
              pass.ready("weight", floats(rank, 1, 0));
              pass.ready("bias", floats(rank));
            });
          }
        });
        const given = floats(10, 0, 0);
        await ddp.step((pass) => pass.ready("weight", given));
        expect(numbers(ddp.gradient("weight"))).toEqual([11, 2, 0]);
        expect(numbers(ddp.gradient("bias"))).toEqual([1]);
      }
    });
  });

  test("noSync() of dtypes that no TypedArray has; a gradient of the wrong length loses nothing", async () => {
    await localRanks(2, async ({ rank }) => {
      for (const gradientAsBucketView of [false, true]) {
        const half = (...values: number[]) => dist.tensor(values, { dtype: "bfloat16" });
        const parameters = [{ name: "half", data: half(0, 0) }];
        const ddp = await DistributedDataParallel.create({ parameters }, { gradientAsBucketView });
        expect(ddp.requireBackwardGradSync).toBe(true);
        for (const value of [1, 2]) {
          await ddp.noSync(async () => {
            expect(ddp.requireBackwardGradSync).toBe(false);
            await ddp.step((pass) => pass.ready("half", half(value, rank)));
          });
        }
        const given = half(10, 0);
        await ddp.step((pass) => {
          expect(() => pass.ready("half", half(1))).toThrow("got 1 elements of bfloat16");
          pass.ready("half", given);
        });
        expect((ddp.gradient("half") as dist.Tensor).toNumbers()).toEqual([13, 1]);
        expect(given.toNumbers()).toEqual(gradientAsBucketView ? [10, 0] : [13, 1]);
      }
    });
  });

  test.each([false, true])("a parameter that is used twice in a static graph; as views: %p", async (views) => {
    await localRanks(2, async ({ rank }) => {
      const ddp = await DistributedDataParallel.create(model(), { staticGraph: true, gradientAsBucketView: views });
      for (let i = 0; i < 3; i++) {
        const first = floats(rank, 0, 0);
        await ddp.step((pass) => {
          pass.ready("weight", first);
          pass.ready("weight", floats(0, 1, 0));
        });
        expect(numbers(first)).toEqual(views ? [rank, 0, 0] : [0.5, 1, 0]);
        expect(numbers(ddp.gradient("weight"))).toEqual([0.5, 1, 0]);
        expect(ddp.gradient("bias")).toBeUndefined();
      }
      expect(await failure(ddp.step((pass) => pass.ready("bias", floats(1))))).toMatchObject({ code: "GRAPH_CHANGED" });
    });
  });

  test("a parameter that gets no gradient is named, at once", async () => {
    await localRanks(1, async () => {
      const ddp = await DistributedDataParallel.create(model());
      await ddp.forward();
      const pass = ddp.backward();
      pass.ready("weight", floats(1, 2, 3));
      const { code, message } = await failure(pass.finish());
      expect(code).toBe("REDUCTION_NOT_FINISHED");
      expect(message).toContain(
        "Expected to have finished reduction in the prior iteration before starting a new one.",
      );
      expect(message).toContain("Parameters which did not receive grad for rank 0: bias (index 1).");
      expect(await failure(ddp.step(() => {}))).toEqual({ code, message });
      // It can still be given.
      pass.ready("bias", floats(4));
      await pass.finish();
      expect(numbers(ddp.gradient("bias"))).toEqual([4]);
    });
  });

  test("a gradient that comes twice is named", async () => {
    await localRanks(1, async () => {
      const ddp = await DistributedDataParallel.create(model());
      await ddp.step((pass) => {
        pass.ready("weight", floats(1, 2, 3));
        expect(() => pass.ready("weight", floats(4, 5, 6))).toThrow(
          expect.objectContaining({
            code: "READY_TWICE",
            message: expect.stringContaining("Parameter at index 0 with name weight has been marked as ready twice."),
          }),
        );
        pass.ready("bias", floats(1));
      });
      expect(numbers(ddp.gradient("weight"))).toEqual([1, 2, 3]);
    });
  });

  test.each<[string, (pass: { ready(name: string | number, gradient: never): void }) => void, string]>([
    [
      "another length",
      (pass) => pass.ready("weight", floats(1) as never),
      "Expected a dense gradient of 3 elements of float32 for parameter weight, got 1 elements of float32",
    ],
    [
      "another dtype",
      (pass) => pass.ready("weight", Float64Array.of(1, 2, 3) as never),
      "3 elements of float32 for parameter weight, got 3 elements of float64",
    ],
    [
      "nothing",
      (pass) => pass.ready("weight", undefined as never),
      "the gradient of weight must be a tensor of 3 elements of float32, got undefined",
    ],
    ["a list", (pass) => pass.ready("weight", [1, 2, 3] as never), "gradient of weight must be a TypedArray"],
    [
      "a sparse tensor",
      (pass) => pass.ready("weight", dist.sparseTensor({ indices: [[0]], values: floats(1), shape: [3] }) as never),
      "for parameter weight, got a SparseTensor",
    ],
    [
      "an unknown name",
      (pass) => pass.ready("wieght", floats(1) as never),
      'there is no parameter "wieght"; there are weight, bias',
    ],
    ["an index out of range", (pass) => pass.ready(2, floats(1) as never), "there is no parameter number 2"],
  ])("%s is refused as a gradient, and the pass goes on", async (_, give, message) => {
    await localRanks(1, async () => {
      const ddp = await DistributedDataParallel.create(model());
      await ddp.step((pass) => {
        expect(() => give(pass)).toThrow(
          expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringContaining(message) }),
        );
        pass.ready("weight", floats(1, 2, 3));
        pass.ready("bias", floats(1));
      });
      expect(numbers(ddp.gradient("weight"))).toEqual([1, 2, 3]);
    });
  });

  test("one tensor as the gradient of two parameters is refused", async () => {
    await localRanks(1, async () => {
      const parameters = ["a", "b"].map((name) => ({ name, data: floats(0) }));
      const ddp = await DistributedDataParallel.create({ parameters });
      await ddp.forward();
      const pass = ddp.backward();
      const shared = floats(1);
      pass.ready("a", shared);
      expect(() => pass.ready("b", shared)).toThrow("the gradients of a and b are the same tensor");
      pass.ready("b", floats(1));
      await pass.finish();
      expect(() => pass.ready("a", floats(1))).toThrow(expect.objectContaining({ code: "PASS_FINISHED" }));
      expect((await failure(pass.finish())).code).toBe("PASS_FINISHED");
    });
  });

  test.each<[string, unknown, string]>([
    ["no model", undefined, "a model is { parameters: [{ name, data }, …] }, got undefined"],
    [
      "no parameters",
      { parameters: [] },
      "DistributedDataParallel is not needed when a module doesn't have any parameters that require a gradient.",
    ],
    [
      "integers",
      { parameters: [{ name: "w", data: Int32Array.of(1) }] },
      "parameter w: only tensors of floating point and complex dtype can have gradients, got int32",
    ],
    [
      "two of one name",
      {
        parameters: [
          { name: "w", data: floats(1) },
          { name: "w", data: floats(1) },
        ],
      },
      'two tensors of the model are named "w"',
    ],
    ["no name", { parameters: [{ data: floats(1) }] }, "a tensor of a model is { name, data }"],
    [
      "a wrong shape",
      { parameters: [{ name: "w", data: floats(1, 2), shape: [3] }] },
      "w: shape [3] does not hold its 2 elements",
    ],
    ["numbers", { parameters: [{ name: "w", data: [1, 2] }] }, "data of w must be a TypedArray"],
  ])("a model with %s is refused before anything is sent", async (_, wrong, message) => {
    await localRanks(1, async () => {
      const creating = DistributedDataParallel.create(wrong as never);
      expect(await failure(creating)).toMatchObject({
        code: "INVALID_ARGUMENT",
        message: expect.stringContaining(message),
      });
    });
  });

  test("figures of training, of the first 10 iterations and of every 100th", async () => {
    await localRanks(2, async () => {
      const ddp = await DistributedDataParallel.create({ ...model(), name: "Tiny" });
      const counted: number[] = [];
      for (let i = 1; i <= 205; i++) {
        await ddp.step((pass) => {
          pass.ready("weight", floats(1, 2, 3));
          pass.ready("bias", floats(1));
        });
        const { iteration = 0 } = ddp.getDdpLoggingData().intsMap;
        if (counted.at(-1) !== iteration) counted.push(iteration);
      }
      // An iteration is logged when the next one begins.
      expect(counted).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 100, 200]);
      const { strsMap, intsMap } = ddp.getDdpLoggingData();
      expect(strsMap).toMatchObject({ module_name: "Tiny", backend_name: "fake", dtypes: "float", bucket_sizes: "16" });
      expect(intsMap.total_parameter_size_bytes).toBe(16);
      for (const name of ["forward_compute_time", "backward_compute_time", "backward_comm_time"]) {
        expect(intsMap[name]).toBeGreaterThan(0);
        expect(intsMap[`avg_${name}`]).toBeGreaterThan(0);
      }
    });
  });

  test.each<[string, object, string]>([
    [
      "a misspelt name",
      { findUnusedParamters: true },
      "unknown option findUnusedParamters (known are group, broadcastBuffers",
    ],
    ["another case", { bucketCapMB: 1 }, 'did you mean "bucketCapMb"?'],
    ["a text as a size", { bucketCapMb: "1" }, 'the size of a bucket is a number of MiB of at least 1 byte, got "1"'],
    ["a negative size", { bucketCapMb: -1 }, "a number of MiB of at least 1 byte, got -1"],
    ["two kinds of sizes", { bucketCapMb: 1, bucketCapMbList: [1] }, "not both"],
    ["no sizes", { bucketCapMbList: [] }, "bucketCapMbList must be a list of sizes in MiB, got an array of 0"],
    ["a text as a flag", { gradientAsBucketView: "yes" }, "gradientAsBucketView"],
    ["a group without this rank", { group: null }, "this rank is not in the given group"],
    ["a number as a group", { group: 5 }, "group must be a ProcessGroup, got number 5"],
  ])("options with %s are refused before anything is sent", async (_, wrong, message) => {
    await localRanks(1, async () => {
      const creating = DistributedDataParallel.create(model(), wrong);
      expect(await failure(creating)).toMatchObject({
        code: "INVALID_ARGUMENT",
        message: expect.stringContaining(message),
      });
    });
  });

  test("options of other calls are checked, too", async () => {
    await localRanks(1, async () => {
      const ddp = await DistributedDataParallel.create(model());
      expect(() => ddp.backward({ unusd: [] } as never)).toThrow('did you mean "unused"?');
      expect(() => ddp.backward({ unused: ["bias"] })).toThrow("only with findUnusedParameters: true");
      expect(() => ddp.backward()).toThrow(expect.objectContaining({ code: "FORWARD_MISSING" }));
      expect(() => ddp.gradientBuffer("bias")).toThrow("create the model with gradientAsBucketView: true");
      expect(() => ddp.join(() => {}, { throwOnEarlyTerminaton: true } as never)).toThrow(
        'did you mean "throwOnEarlyTermination"?',
      );
      const hook = async () => floats(1);
      expect(() => ddp.registerCommHook(undefined, hook, { pipeline: true } as never)).toThrow(
        'did you mean "pipelined"?',
      );
      await ddp.forward();
      expect(() => ddp.backward().ready("weight", dist.tensor([1, 2, 3], { dtype: "float32", shape: [3, 1] }))).toThrow(
        "for parameter weight, got one of shape [3, 1], not [3]",
      );
    });
  });

  test("a step whose body throws before a bucket was complete can be repeated", async () => {
    await localRanks(2, async ({ rank }) => {
      for (const options of [{}, { staticGraph: true }]) {
        const ddp = await DistributedDataParallel.create(model(), options);
        for (let i = 0; i < 3; i++) {
          const broken = ddp.step((pass) => {
            pass.ready("bias", floats(7));
            if (i < 2) throw new Error("out of data");
            pass.ready("weight", floats(1, 2, 3));
          });
          if (i < 2) await expect(broken).rejects.toThrow("out of data");
          else await broken;
          await ddp.step((pass) => {
            pass.ready("bias", floats(rank));
            pass.ready("weight", floats(rank, 2, 3));
          });
          expect(numbers(ddp.gradient("weight"))).toEqual([0.5, 2, 3]);
        }
      }
    });
  });

  test("a step whose body throws after a bucket was sent fails the group, and can be forgotten for another one", async () => {
    const seen = await localRanks(2, async ({ rank }) => {
      const [group, other] = [await dist.newGroup([0, 1]), await dist.newGroup([0, 1])];
      if (group === null || other === null) throw new Error("no group");
      const ddp = await DistributedDataParallel.create(model(), { group, bucketCapMbList: [1e-6] });
      const cause = new Error("out of data");
      const broken = ddp.step((pass) => {
        pass.ready("bias", floats(7));
        if (rank === 0) throw cause;
        pass.ready("weight", floats(1, 2, 3));
      });
      const error = await broken.catch((thrown: unknown) => thrown);
      const next = await ddp.step(() => {}).catch((thrown: dist.DistError) => thrown);
      if (rank === 0) {
        expect(error).toBe(cause);
        expect(next).toMatchObject({ code: "STEP_ABANDONED", cause });
      } else expect(next).toMatchObject({ code: "REDUCTION_FAILED" });
      ddp.resetState();
      ddp.updateProcessGroup(other);
      await ddp.step((pass) => {
        pass.ready("bias", floats(rank));
        pass.ready("weight", floats(1, 2, 3));
      });
      expect(numbers(ddp.gradient("bias"))).toEqual([0.5]);
      return (error as { readonly code?: string }).code;
    });
    expect(seen).toEqual([undefined, expect.stringMatching(/PEER_LOST|ABORTED|GROUP_FAILED/)]);
  });

  test("gradients that were refused change nothing: the right ones follow", async () => {
    for (const options of [{}, { gradientAsBucketView: true }, { staticGraph: true }, { findUnusedParameters: true }]) {
      await localRanks(2, async ({ rank }) => {
        const ddp = await DistributedDataParallel.create(model(), options);
        for (let i = 0; i < 3; i++) {
          const bias = floats(rank);
          await ddp.step((pass) => {
            expect(() => pass.ready("bias", floats(1, 2))).toThrow("for parameter bias, got 2 elements");
            expect(() => pass.ready("weight", bias)).toThrow("for parameter weight, got 1 elements");
            pass.ready("bias", bias);
            if (i > 0 && "staticGraph" in options) {
              expect(() => pass.ready("bias", floats(100))).toThrow(expect.objectContaining({ code: "GRAPH_CHANGED" }));
            }
            pass.ready("weight", floats(rank, 2, 3));
          });
          expect(numbers(ddp.gradient("bias"))).toEqual([0.5]);
          expect(numbers(ddp.gradient("weight"))).toEqual([0.5, 2, 3]);
        }
      });
    }
  });

  test("gradients in the same memory are refused where they would overwrite each other", async () => {
    await localRanks(1, async () => {
      const parameters = ["a", "b"].map((name) => ({ name, data: floats(0, 0) }));
      const scratch = floats(0, 0, 0, 0);
      const give = (ddp: DistributedDataParallel) =>
        ddp.step((pass) => {
          pass.ready("b", scratch.subarray(0, 2).fill(1));
          pass.ready("a", scratch.subarray(0, 2).fill(5));
        });
      const copying = await DistributedDataParallel.create({ parameters });
      await expect(give(copying)).rejects.toThrow("the gradients of b and a are the same tensor");
      const viewing = await DistributedDataParallel.create({ parameters }, { gradientAsBucketView: true });
      await give(viewing);
      expect([numbers(viewing.gradient("b")), numbers(viewing.gradient("a"))]).toEqual([
        [1, 1],
        [5, 5],
      ]);
    });
  });

  test("a rank of a static graph that uses nothing", async () => {
    await localRanks(2, async ({ rank }) => {
      const ddp = await DistributedDataParallel.create(model(), { staticGraph: true });
      for (let i = 0; i < 4; i++) {
        await ddp.step((pass) => {
          if (rank === 1) return;
          pass.ready("bias", floats(4));
          pass.ready("weight", floats(1, 2, 3));
        });
        expect(numbers(ddp.gradient("bias"))).toEqual([2]);
      }
    });
  });

  test("tensors over arrays of another kind, and noSync() calls that overlap", async () => {
    await localRanks(2, async () => {
      const half = new dist.Tensor(Uint16Array.of(0x3c00, 0x4000), "float16", [2]);
      const ddp = await DistributedDataParallel.create({ parameters: [{ name: "half", data: half }] });
      await Promise.all([ddp.noSync(() => Bun.sleep(2)), ddp.noSync(() => Bun.sleep(8))]);
      expect(ddp.requireBackwardGradSync).toBe(true);
      await ddp.step((pass) => pass.ready("half", new dist.Tensor(Uint16Array.of(0x3c00, 0x4000), "float16", [2])));
      const { data } = ddp.gradient("half") as dist.Tensor;
      expect([...data]).toEqual([0x3c00, 0x4000]);
    });
  });

  test("a gradient that loses its memory before the end of the step", async () => {
    await localRanks(1, async () => {
      const group = (await dist.newGroup([0])) as dist.ProcessGroup;
      const ddp = await DistributedDataParallel.create(model(), { group });
      const bias = floats(1);
      const failed = ddp.step((pass) => {
        pass.ready("bias", bias);
        pass.ready("weight", floats(1, 2, 3));
        bias.buffer.transfer();
      });
      expect(await failure(failed)).toMatchObject({ code: "DETACHED_BUFFER" });
      expect(await failure(ddp.step(() => {}))).toMatchObject({ code: "REDUCTION_FAILED" });
    });
  });

  test("noSync() shows what has been added up", async () => {
    await localRanks(2, async ({ rank }) => {
      const ddp = await DistributedDataParallel.create(model(), { findUnusedParameters: true });
      const give = () => ddp.step((pass) => pass.ready("bias", floats(rank + 1)));
      await ddp.noSync(async () => {
        await give();
        await give();
        expect(numbers(ddp.gradient("bias"))).toEqual([2 * (rank + 1)]);
      });
      await give();
      expect(numbers(ddp.gradient("bias"))).toEqual([4.5]);
    });
  });

  test("with ranks that were not compared, which may be PyTorch's, gradients are divided before the sum", async () => {
    await localRanks(3, async ({ rank, group }) => {
      const two = await dist.newGroup([0, 1]);
      if (two === null) return;
      const ddp = await DistributedDataParallel.create(model(), { group: two });
      expect(ddp.reducer.averagesInLibrary).toBe(true);
      ddp.updateProcessGroup(group);
      expect(ddp.reducer.averagesInLibrary).toBe(false);
      ddp.updateProcessGroup(two);
      expect(ddp.reducer.averagesInLibrary).toBe(false);
      await ddp.step((pass) => {
        pass.ready("bias", floats(rank));
        pass.ready("weight", floats(rank, 2, 3));
      });
      expect(numbers(ddp.gradient("bias"))).toEqual([0.5]);
    });
  });

  test("other ranks from some iteration on, for gradients, buffers and join()", async () => {
    await localRanks(3, async ({ rank }) => {
      const mean = floats(rank);
      const ddp = await DistributedDataParallel.create({ ...model(), buffers: [{ name: "mean", data: mean }] });
      const step = () =>
        ddp.step((pass) => {
          pass.ready("bias", floats(rank));
          pass.ready("weight", floats(rank, 2, 3));
        });
      await step();
      expect(numbers(ddp.gradient("bias"))).toEqual([1]);
      const fewer = await dist.newGroup([0, 1]);
      if (fewer === null) {
        expect(() => ddp.updateProcessGroup(fewer as never)).toThrow("this rank is not in the given group");
        return;
      }
      expect(ddp.reducer.averagesInLibrary).toBe(true);
      ddp.updateProcessGroup(fewer);
      expect(ddp.group).toBe(fewer);
      expect(ddp.reducer.averagesInLibrary).toBe(true);
      mean[0] = rank + 5;
      await ddp.join(step);
      // In join(), all get the buffers of the largest rank that has inputs.
      expect([numbers(ddp.gradient("bias")), mean[0]]).toEqual([[0.5], 6]);
    });
  });
});
