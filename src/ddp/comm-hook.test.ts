import { describe, expect, test } from "bun:test";
import * as dist from "../index.ts";
import { localRanks } from "../testing/index.ts";
import { BuiltinCommHookType, type CommHook } from "./comm-hook.ts";
import { DistributedDataParallel } from "./distributed-data-parallel.ts";
import type { GradBucket } from "./grad-bucket.ts";

const floats = (...values: number[]) => Float32Array.from(values);
const names = ["a", "b", "c"];
const model = () => ({ parameters: names.map((name) => ({ name, data: floats(0, 0), shape: [1, 2] })) });
/** A bucket for each parameter, from the first iteration on. */
const options = { bucketCapMbList: [1e-6] };

async function step(ddp: DistributedDataParallel, value: number): Promise<void> {
  await ddp.step((pass) => {
    for (const name of names.toReversed()) pass.ready(name, floats(value, 1));
  });
}

describe("communication hooks", () => {
  test("get each bucket in order, with its gradients undivided, and give the averages", async () => {
    const seen = await localRanks(2, async ({ rank }) => {
      const ddp = await DistributedDataParallel.create(model(), options);
      const calls: unknown[] = [];
      const state = { calls };
      ddp.registerCommHook(state, async (given, bucket) => {
        const [gradient] = bucket.gradients() as dist.Tensor[];
        given.calls.push([
          bucket.index(),
          bucket.isLast(),
          bucket.parameters().map(({ name }) => name),
          gradient?.shape,
        ]);
        expect(gradient?.toNumbers()).toEqual([rank, 1]);
        await dist.allReduce(bucket.dense());
        return [bucket.dense()];
      });
      await step(ddp, rank);
      expect(ddp.gradient("a")).toEqual(floats(1, 2));
      expect(ddp.getDdpLoggingData().strsMap.comm_hook).toBe("without a name");
      return calls;
    });
    const expected = [
      [0, false, ["c"], [1, 2]],
      [1, false, ["b"], [1, 2]],
      [2, true, ["a"], [1, 2]],
    ];
    expect(seen).toEqual([expected, expected]);
  });

  test("of several collectives run one after the other, so that all ranks have one order", async () => {
    await localRanks(3, async ({ rank }) => {
      const ddp = await DistributedDataParallel.create(model(), options);
      const order: string[] = [];
      ddp.registerCommHook(undefined, async (_, bucket) => {
        order.push(`begin ${bucket.index()}`);
        await dist.allReduce(bucket.dense());
        // Ranks take different times between their collectives.
        await Bun.sleep(rank * 3);
        await dist.allReduce(bucket.dense());
        order.push(`end ${bucket.index()}`);
        return bucket.buffer();
      });
      await step(ddp, rank);
      expect(order).toEqual(["begin 0", "end 0", "begin 1", "end 1", "begin 2", "end 2"]);
      expect(ddp.gradient("b")).toEqual(floats(9, 9));
    });
  });

  test("that are pipelined are all called before the first one ends", async () => {
    await localRanks(2, async ({ rank }) => {
      const ddp = await DistributedDataParallel.create(model(), options);
      const order: string[] = [];
      const hook: CommHook = async (_, bucket) => {
        order.push(`begin ${bucket.index()}`);
        await dist.allReduce(bucket.dense(), { op: dist.ReduceOp.MAX });
        order.push(`end ${bucket.index()}`);
        return bucket.buffer();
      };
      ddp.registerCommHook(undefined, hook, { pipelined: true, name: "largest" });
      await step(ddp, rank);
      expect(order.slice(0, 3)).toEqual(["begin 0", "begin 1", "begin 2"]);
      expect(ddp.gradient("c")).toEqual(floats(1, 1));
      expect(ddp.getDdpLoggingData().strsMap.comm_hook).toBe("largest");
    });
  });

  test("can replace the tensor of a bucket", async () => {
    await localRanks(1, async () => {
      for (const gradientAsBucketView of [false, true]) {
        const ddp = await DistributedDataParallel.create(model(), { ...options, gradientAsBucketView });
        const refusals: unknown[] = [];
        ddp.registerCommHook(undefined, async (_, bucket) => {
          bucket.setBuffer(floats(7, bucket.index()));
          try {
            bucket.setBuffer(floats(7));
          } catch (error) {
            refusals.push((error as Error).message);
          }
          return bucket.buffer();
        });
        await step(ddp, 1);
        expect(names.map((name) => ddp.gradient(name))).toEqual([floats(7, 2), floats(7, 1), floats(7, 0)]);
        expect(refusals[0]).toBe("setBuffer(): bucket 0 (c) needs 2 elements of float32, got 1 of float32");
      }
    });
  });

  test("ALLREDUCE and FP16_COMPRESS", async () => {
    await localRanks(2, async ({ rank }) => {
      for (const type of [BuiltinCommHookType.ALLREDUCE, BuiltinCommHookType.FP16_COMPRESS]) {
        const ddp = await DistributedDataParallel.create(model(), options);
        ddp.registerBuiltinCommHook(type);
        await step(ddp, 1 / 3 + rank);
        const exact = (1 / 3 + 4 / 3) / 2;
        const [value] = ddp.gradient("a") as Float32Array;
        const error = Math.abs((value ?? 0) - exact);
        expect(error).toBeLessThan(type === BuiltinCommHookType.ALLREDUCE ? 1e-7 : 1e-3);
        if (type === BuiltinCommHookType.FP16_COMPRESS) expect(error).toBeGreaterThan(1e-6);
        expect(() => ddp.registerBuiltinCommHook(type)).toThrow(
          "register_comm_hook or register_builtin_comm_hook can only be called once.",
        );
      }
      const ddp = await DistributedDataParallel.create(model(), options);
      expect(() => ddp.registerBuiltinCommHook(3 as never)).toThrow("unknown builtin hook number 3");
      expect(() => ddp.registerCommHook(undefined, 3 as never)).toThrow(
        "Communication hook must be callable, got number 3",
      );
    });
  });

  const sum = async (bucket: GradBucket) => {
    await dist.allReduce(bucket.dense());
    return bucket.buffer();
  };
  test.each<[string, CommHook, string, string]>([
    [
      "throws",
      () => {
        throw new Error("no more memory");
      },
      "HOOK_FAILED",
      "communication hook the hook failed in bucket 0 (c): no more memory",
    ],
    [
      "rejects",
      async () => {
        throw new Error("no more memory");
      },
      "HOOK_FAILED",
      "communication hook the hook failed in bucket 0 (c): no more memory",
    ],
    [
      "rejects for the second bucket",
      async (_, bucket) => {
        if (bucket.index() === 1) throw "text";
        return sum(bucket);
      },
      "HOOK_FAILED",
      "failed in bucket 1 (b): text",
    ],
    [
      "gives nothing",
      async () => undefined as never,
      "INVALID_ARGUMENT",
      "the result of communication hook the hook: bucket 0 (c) needs a tensor of 2 elements of float32, got undefined",
    ],
    [
      "gives another length",
      async () => floats(1),
      "INVALID_ARGUMENT",
      "bucket 0 (c) needs 2 elements of float32, got 1 of float32",
    ],
    [
      "gives another dtype",
      async () => Float64Array.of(1, 2),
      "INVALID_ARGUMENT",
      "bucket 0 (c) needs 2 elements of float32, got 2 of float64",
    ],
    [
      "gives an empty list",
      async () => [],
      "INVALID_ARGUMENT",
      "bucket 0 (c) needs a tensor of 2 elements of float32, got undefined",
    ],
    [
      "never ends",
      () => new Promise(() => {}),
      "HOOK_TIMEOUT",
      "communication hook the hook has not finished bucket 0 (c) within 300 ms",
    ],
    [
      "makes a wrong call",
      async (_, bucket) => {
        await dist.broadcast(bucket.dense(), { src: 5 });
        return bucket.buffer();
      },
      "INVALID_ARGUMENT",
      "in communication hook the hook, bucket 0 (c)",
    ],
  ])("one that %s fails the pass, naming the bucket's parameters", async (_, hook, code, message) => {
    await localRanks(1, async () => {
      const group = await dist.newGroup([0], { timeout: 300 });
      if (group === null) throw new Error("no group");
      const ddp = await DistributedDataParallel.create(model(), { ...options, group });
      ddp.registerCommHook(undefined, hook, { name: "the hook" });
      const error = (await step(ddp, 1).catch((thrown) => thrown)) as dist.DistError;
      expect(error).toBeInstanceOf(dist.DistError);
      expect(error.code).toBe(code);
      expect(error.message).toContain(message);
      expect(ddp.getDdpLoggingData().intsMap.has_error).toBe(1);
      // What this rank holds may differ from the others, so no iteration follows unnoticed.
      const next = (await step(ddp, 1).catch((thrown) => thrown)) as dist.DistError;
      expect(next.code).toBe("REDUCTION_FAILED");
      expect(next.cause).toBe(error);
      expect(next.message).toContain("resetState()");
    });
  });
});
