import { describe, expect, test } from "bun:test";
import { localRanks } from "../testing/index.ts";
import { DistributedDataParallel } from "./distributed-data-parallel.ts";

const floats = (...values: number[]) => Float32Array.from(values);

/** A model whose weight and buffer are the number of the rank. */
function model(rank: number) {
  const [weight, mean] = [floats(rank), floats(rank)];
  return { weight, mean, parameters: [{ name: "weight", data: weight }], buffers: [{ name: "mean", data: mean }] };
}

describe("what is copied from rank 0", () => {
  test("with initSync: false, nothing is sent at construction", async () => {
    const seen = await localRanks(2, async ({ rank, group }) => {
      const ops: string[] = [];
      using _ = group.registerHook({ pre: ({ op }) => void ops.push(op) });
      const { weight, mean, ...rest } = model(rank + 1);
      const ddp = await DistributedDataParallel.create(rest, { initSync: false });
      expect(ops).toEqual([]);
      expect([weight[0], mean[0]]).toEqual([rank + 1, rank + 1]);
      await ddp.step((pass) => pass.ready("weight", floats(rank)));
      expect(ddp.gradient("weight")).toEqual(floats(0.5));
      return { weight: weight[0], mean: mean[0] };
    });
    // Buffers are copied in each iteration nevertheless.
    expect(seen).toEqual([
      { weight: 1, mean: 1 },
      { weight: 2, mean: 1 },
    ]);
  });

  test.each([true, false])("buffers at construction and in each iteration, broadcastBuffers: %p", async (copies) => {
    const seen = await localRanks(2, async ({ rank }) => {
      const { weight, mean, ...rest } = model(rank + 1);
      const ddp = await DistributedDataParallel.create(rest, { broadcastBuffers: copies });
      const means = [mean[0]];
      for (let i = 0; i < 2; i++) {
        mean[0] = 10 * i + rank;
        await ddp.step((pass) => pass.ready("weight", floats(rank)));
        means.push(mean[0]);
      }
      expect(ddp.getDdpLoggingData().intsMap.broadcast_buffers).toBe(Number(copies));
      return { weight: weight[0], means };
    });
    expect(seen).toEqual([
      { weight: 1, means: [1, 0, 10] },
      { weight: 1, means: copies ? [1, 0, 10] : [2, 1, 11] },
    ]);
  });

  test("buffers are not copied in the iteration after one without synchronisation", async () => {
    const [, seen] = await localRanks(2, async ({ rank }) => {
      const { mean, weight, ...rest } = model(rank);
      const ddp = await DistributedDataParallel.create(rest);
      const copied: boolean[] = [];
      const step = async () => {
        mean[0] = 7 + rank;
        await ddp.forward();
        copied.push(mean[0] === 7);
        const pass = ddp.backward();
        pass.ready("weight", floats(1));
        await pass.finish();
      };
      await step();
      await ddp.noSync(async () => {
        await step();
        await step();
      });
      await step();
      await step();
      return copied;
    });
    // Of the first one in noSync(), the iteration before was synchronised.
    expect(seen).toEqual([true, true, false, false, true]);
  });
});
