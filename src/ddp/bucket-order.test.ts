import { describe, expect, test } from "bun:test";
import { ReduceOp } from "../collectives/index.ts";
import { localRanks } from "../testing/index.ts";
import { DistributedDataParallel } from "./distributed-data-parallel.ts";

const MiB = 2 ** 20;

const parametersOf = (bytes: number, ...names: string[]) =>
  names.map((name) => ({ name, data: new Float32Array(bytes / 4) }));

describe("the order of buckets", () => {
  test.each([
    {
      options: {},
      first: [[0, 1, 2, 3, 4]],
      later: [
        [4, 3],
        [2, 1, 0],
      ],
      limits: [MiB, 25 * MiB],
    },
    {
      options: { bucketCapMb: 1.5 },
      first: [[0, 1, 2, 3, 4]],
      later: [
        [4, 3, 2],
        [1, 0],
      ],
      limits: [1.5 * MiB, 1.5 * MiB],
    },
    {
      options: { bucketCapMbList: [0.5, 1] },
      first: [[3, 4], [1, 2], [0]],
      later: [[4], [3, 2], [1, 0]],
      limits: [MiB / 2, MiB, MiB],
    },
    {
      options: { findUnusedParameters: true },
      first: [
        [2, 3, 4],
        [0, 1],
      ],
      later: [
        [2, 3, 4],
        [0, 1],
      ],
      limits: [25 * MiB, MiB],
    },
  ])("of gradients of half a MiB, with %j", async ({ options, first, later, limits }) => {
    await localRanks(1, async () => {
      const names = ["a", "b", "c", "d", "e"];
      const ddp = await DistributedDataParallel.create({ parameters: parametersOf(MiB / 2, ...names) }, options);
      expect(ddp.reducer.bucketIndices).toEqual(first);
      for (let i = 0; i < 2; i++) {
        await ddp.step((pass) => {
          for (const name of names.toReversed()) pass.ready(name, new Float32Array(MiB / 8));
        });
      }
      expect(ddp.reducer.bucketIndices).toEqual(later);
      expect(ddp.reducer.facts().bucketLimits).toEqual(limits);
    });
  });

  test("parameters that are announced as unused do not keep other buckets waiting", async () => {
    await localRanks(2, async ({ rank }) => {
      const ddp = await DistributedDataParallel.create(
        { parameters: parametersOf(4, "a", "b", "c") },
        { findUnusedParameters: true, bucketCapMbList: [1e-6] },
      );
      expect(ddp.reducer.bucketIndices).toEqual([[2], [1], [0]]);
      let exchanged: string[] = [];
      ddp.registerCommHook(
        undefined,
        async (_, bucket) => {
          exchanged.push(...bucket.parameters().map(({ name }) => name));
          await bucket.group.allReduce(bucket.dense(), { op: ReduceOp.AVG });
          return bucket.buffer();
        },
        { pipelined: true },
      );
      const begun: string[] = [];
      for (const unused of [["c"], [], [2]]) {
        await ddp.forward();
        const pass = ddp.backward({ unused });
        pass.ready("b", Float32Array.of(rank));
        begun.push(exchanged.join(" "));
        pass.ready("a", Float32Array.of(1));
        await pass.finish();
        expect(exchanged).toEqual(["c", "b", "a"]);
        exchanged = [];
        expect(["a", "b", "c"].map((name) => ddp.gradient(name))).toEqual([
          Float32Array.of(1),
          Float32Array.of(0.5),
          undefined,
        ]);
      }
      expect(begun).toEqual(["c b", "", "c b"]);
    });
  });

  test("one that is announced as unused, but that another rank uses, gets the average with zeros", async () => {
    await localRanks(2, async ({ rank }) => {
      const ddp = await DistributedDataParallel.create(
        { parameters: parametersOf(4, "a", "b") },
        { findUnusedParameters: true },
      );
      await ddp.forward();
      const pass = ddp.backward({ unused: rank === 0 ? ["b"] : [] });
      if (rank === 1) pass.ready("b", Float32Array.of(3));
      pass.ready("a", Float32Array.of(1));
      await pass.finish();
      expect(ddp.gradient("b")).toEqual(Float32Array.of(1.5));
    });
  });
});
