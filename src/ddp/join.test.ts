import { describe, expect, spyOn, test } from "bun:test";
import * as dist from "../index.ts";
import { localRanks } from "../testing/index.ts";
import { DistributedDataParallel } from "./distributed-data-parallel.ts";
import { Join } from "./join.ts";

const floats = (...values: number[]) => Float32Array.from(values);

describe("Join", () => {
  test.each([
    [true, [1.5, 1, 2 / 3]],
    [false, [1.5, 1.5, 2]],
  ])(
    "ranks without inputs stand in for others; divided by the world size: %p",
    async (divideByInitialWorldSize, expected) => {
      const seen = await localRanks(3, async ({ rank }) => {
        const weight = floats(rank);
        const buffer = floats(rank);
        const ddp = await DistributedDataParallel.create({
          parameters: [{ name: "w", data: weight }],
          buffers: [{ name: "mean", data: buffer }],
        });
        const averages: number[] = [];
        const result = await ddp.join(
          async () => {
            // Rank 0 has one input, rank 1 two and rank 2 three.
            for (let i = 0; i <= rank; i++) {
              buffer[0] = 10 * rank + i;
              await ddp.step((pass) => pass.ready("w", floats(rank === 0 ? 1.5 : rank === 1 ? 1 : 2)));
              averages.push((ddp.gradient("w") as Float32Array)[0] ?? Number.NaN);
              weight[0] = (weight[0] ?? 0) - (averages.at(-1) ?? 0);
            }
            return `rank ${rank}`;
          },
          { divideByInitialWorldSize },
        );
        expect(result).toBe(`rank ${rank}`);
        expect(ddp.getDdpLoggingData().intsMap.join_uneven_inputs).toBe(1);
        return { averages, weight: weight[0], buffer: buffer[0] };
      });
      const rounded = (values: readonly number[]) => values.map((value) => Math.round(value * 1e5));
      for (const [rank, { averages }] of seen.entries()) {
        expect(rounded(averages)).toEqual(rounded(expected.slice(0, rank + 1)));
      }
      // All have the model of the rank that trained longest.
      expect(seen.map(({ weight }) => weight)).toEqual(Array(3).fill(seen[2]?.weight));
      expect(seen.map(({ buffer }) => buffer)).toEqual([22, 22, 22]);
    },
  );

  test("can stop all ranks when the first one has no inputs left", async () => {
    const seen = await localRanks(2, async ({ rank }) => {
      const ddp = await DistributedDataParallel.create({ parameters: [{ name: "w", data: floats(0) }] });
      let iterations = 0;
      const train = async () => {
        for (; iterations < (rank === 0 ? 2 : 5); iterations++) {
          await ddp.step((pass) => pass.ready("w", floats(1)));
        }
      };
      const error = await ddp.join(train, { throwOnEarlyTermination: true }).catch((thrown: dist.DistError) => thrown);
      if (!(error instanceof dist.DistError)) throw new Error("no error");
      return { iterations, code: error.code, message: error.message };
    });
    expect(seen).toEqual([
      { iterations: 2, code: "INPUTS_EXHAUSTED", message: "Rank 0 exhausted all inputs." },
      {
        iterations: 2,
        code: "INPUTS_EXHAUSTED",
        message: "Detected at least one rank that exhausted inputs. Throwing across all ranks.",
      },
    ]);
  });

  test("iterations without synchronisation, and unused parameters", async () => {
    await localRanks(2, async ({ rank }) => {
      const parameters = ["w", "v"].map((name) => ({ name, data: floats(0) }));
      const ddp = await DistributedDataParallel.create({ parameters }, { findUnusedParameters: true });
      await ddp.join(async () => {
        if (rank === 0) return;
        await ddp.noSync(() => ddp.step((pass) => pass.ready("w", floats(4))));
        await ddp.step((pass) => pass.ready("w", floats(2)));
        expect(ddp.gradient("w")).toEqual(floats(3));
        expect(ddp.gradient("v")).toBeUndefined();
      });
    });
  });

  test.each([true, false])("sparse gradients; divided by the world size: %p", async (divideByInitialWorldSize) => {
    await localRanks(2, async ({ rank }) => {
      const table = { name: "table", data: new Float32Array(6), shape: [3, 2], sparse: true };
      const ddp = await DistributedDataParallel.create({ parameters: [table, { name: "w", data: floats(0) }] });
      await ddp.join(
        async () => {
          // Rank 0 has one input, rank 1 two.
          for (let i = 0; i <= rank; i++) {
            await ddp.step((pass) => {
              pass.ready("w", floats(4));
              const values = floats(2, 4);
              pass.ready("table", dist.sparseTensor({ indices: [[rank]], values, shape: [3, 2], sparseDims: 1 }));
            });
            const { indices, values } = ddp.gradient("table") as dist.SparseTensor;
            const isAlone = i > 0;
            const own = isAlone && !divideByInitialWorldSize ? [2, 4] : [1, 2];
            expect([...indices]).toEqual(isAlone ? [1n] : [0n, 1n]);
            expect([...values]).toEqual(isAlone ? own : [...own, ...own]);
            expect(ddp.gradient("w")).toEqual(floats(isAlone && divideByInitialWorldSize ? 2 : 4));
          }
        },
        { divideByInitialWorldSize },
      );
    });
  });

  test.each([{}, { findUnusedParameters: true }])(
    "a static graph, of which a rank has few iterations or none: %p",
    async (options) => {
      for (const counts of [
        [0, 4],
        [1, 4],
        [4, 2],
      ]) {
        await localRanks(2, async ({ rank }) => {
          const parameters = ["w", "v", "unused"].map((name) => ({ name, data: floats(0) }));
          const more = { staticGraph: true, bucketCapMb: 1e-5, ...options };
          const ddp = await DistributedDataParallel.create({ parameters }, more);
          await ddp.join(async () => {
            for (let i = 0; i < (counts[rank] ?? 0); i++) {
              await ddp.step((pass) => {
                pass.ready("v", floats(rank === 0 ? 4 : 2));
                pass.ready("w", floats(i));
              });
              const both = i < (counts[1 - rank] ?? 0);
              expect(ddp.gradient("w")).toEqual(floats(both ? i : i / 2));
              expect(ddp.gradient("unused")).toBeUndefined();
            }
          });
        });
      }
    },
  );

  test("is disabled, or fails at once with what the body throws", async () => {
    await localRanks(1, async () => {
      const ddp = await DistributedDataParallel.create({ parameters: [{ name: "w", data: floats(0) }] });
      expect(await new Join([ddp], { enable: false }).run(() => 7)).toBe(7);
      await expect(ddp.join(() => Promise.reject(new Error("mine")))).rejects.toThrow("mine");
      expect(() => new Join([])).toThrow("The join context manager requires at least one joinable");
    });
  });

  test("joinables of several groups are refused", async () => {
    await localRanks(2, async () => {
      const group = (await dist.newGroup([0, 1])) as dist.ProcessGroup;
      const make = (init: object) =>
        DistributedDataParallel.create({ parameters: [{ name: "w", data: floats(0) }] }, init);
      const both = [await make({}), await make({ group })];
      expect(() => new Join(both)).toThrow("Using join context manager with multiple process groups");
    });
  });

  test.each([true, false])("of two models, divided by the world size: %p", async (divideByInitialWorldSize) => {
    const seen = await localRanks(3, async ({ rank }) => {
      const inputs = [0, 1, 3][rank] ?? 0;
      const create = (data: Float32Array) => DistributedDataParallel.create({ parameters: [{ name: "w", data }] });
      const weights = [floats(rank), floats(rank)] as const;
      const models = [await create(weights[0]), await create(weights[1])];
      const averages: number[][] = [];
      await new Join(models, { divideByInitialWorldSize }).run(async () => {
        for (let i = 0; i < inputs; i++) {
          const both: number[] = [];
          for (const [m, ddp] of models.entries()) {
            await ddp.step((pass) => pass.ready("w", floats(6 * rank * (m + 1))));
            const [average = Number.NaN] = ddp.gradient("w") as Float32Array;
            const values = ddp.parameters[0]?.source.data as Float32Array;
            values[0] = (values[0] ?? 0) - average;
            both.push(Math.round(average * 1e5) / 1e5);
          }
          averages.push(both);
        }
      });
      return { averages, weights: weights.map(([weight = Number.NaN]) => Math.round(weight)) };
    });
    // As in PyTorch, only the first model knows how many ranks are left.
    const [first, later] = divideByInitialWorldSize ? [6, 4] : [9, 12];
    const averages = [
      [first, 12],
      [later, 8],
      [later, 8],
    ];
    const weights = [-first - 2 * later, -28];
    expect(seen).toEqual([
      { averages: [], weights },
      { averages: averages.slice(0, 1), weights },
      { averages, weights },
    ]);
  });

  test.each([
    [1000, 0],
    [1001, 1],
  ])("a rank that stands in for others %d times gives %d warnings", async (iterations, warnings) => {
    const warned = spyOn(process, "emitWarning").mockImplementation(() => {});
    try {
      await localRanks(2, async ({ rank }) => {
        const ddp = await DistributedDataParallel.create({ parameters: [{ name: "w", data: floats(0) }] });
        await ddp.join(async () => {
          for (let i = 0; i < (rank === 0 ? 0 : iterations); i++) {
            await ddp.step((pass) => pass.ready("w", floats(1)));
          }
        });
      });
      expect(warned).toHaveBeenCalledTimes(warnings);
      if (warnings === 0) return;
      expect(warned).toHaveBeenCalledWith(
        expect.stringContaining("rank 0 has at least 1000 fewer inputs than other currently-active ranks"),
        { type: "DistWarning", code: "UNEVEN_INPUTS" },
      );
    } finally {
      warned.mockRestore();
    }
  });
});
