import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { InvalidArgumentError } from "../errors/index.ts";
import * as dist from "../index.ts";
import { localRanks } from "../testing/index.ts";
import { DistributedSampler, type DistributedSamplerOptions } from "./distributed-sampler.ts";

/** Indices of all ranks in an epoch. */
function allRanks(length: number, worldSize: number, options: DistributedSamplerOptions, epoch = 0): number[][] {
  return Array.from({ length: worldSize }, (_, rank) => {
    const sampler = new DistributedSampler(length, { ...options, worldSize, rank });
    sampler.setEpoch(epoch);
    return [...sampler];
  });
}

describe("DistributedSampler", () => {
  // The indices are those of PyTorch 2.13.
  test("shuffled", () => {
    expect(allRanks(10, 3, { seed: 42 })).toEqual([
      [2, 8, 0, 7],
      [6, 4, 9, 2],
      [1, 5, 3, 6],
    ]);
    expect(allRanks(10, 3, { seed: 42 }, 3)).toEqual([
      [7, 3, 0, 1],
      [6, 4, 8, 7],
      [5, 9, 2, 6],
    ]);
    expect(allRanks(10, 3, { seed: 42, dropLast: true }, 3)).toEqual([
      [7, 3, 0],
      [6, 4, 8],
      [5, 9, 2],
    ]);
  });

  test("in order, in any epoch", () => {
    for (const epoch of [0, 3]) {
      expect(allRanks(10, 4, { shuffle: false }, epoch)).toEqual([
        [0, 4, 8],
        [1, 5, 9],
        [2, 6, 0],
        [3, 7, 1],
      ]);
    }
  });

  test("more ranks than elements: they are repeated as often as needed, or dropped", () => {
    expect(allRanks(2, 7, { seed: 1 })).toEqual([[1], [0], [1], [0], [1], [0], [1]]);
    expect(allRanks(2, 3, { dropLast: true })).toEqual([[], [], []]);
    expect(allRanks(0, 2, {})).toEqual([[], []]);
  });

  test("negative and large seeds count as in PyTorch: by the lower 32 bits of their sum with the epoch", () => {
    const expected = allRanks(50, 2, { seed: 6 });
    expect(allRanks(50, 2, { seed: -5 }, 11)).toEqual(expected);
    expect(allRanks(50, 2, { seed: 7 }, -1)).toEqual(expected);
    expect(allRanks(50, 2, { seed: 2n ** 63n + 5n }, 1)).toEqual(expected);
    const sampler = new DistributedSampler(50, { worldSize: 2, rank: 0, seed: 2n ** 64n - 1n });
    expect([...sampler]).toHaveLength(25);
    sampler.setEpoch(1);
    expect(() => [...sampler]).toThrow("seed must be in -2^63 to 2^64 - 1, got 18446744073709551616");
  });

  test("ranks have equally many; together all indices, those repeated or dropped being the difference", () => {
    const flags = { shuffle: fc.boolean(), dropLast: fc.boolean(), seed: fc.integer() };
    fc.assert(
      fc.property(fc.nat(300), fc.integer({ min: 1, max: 20 }), fc.record(flags), (length, worldSize, options) => {
        const parts = allRanks(length, worldSize, options);
        const sampler = new DistributedSampler({ length }, { ...options, worldSize, rank: worldSize - 1 });
        const { dropLast } = options;
        expect(sampler.numSamples).toBe(dropLast ? Math.floor(length / worldSize) : Math.ceil(length / worldSize));
        expect(sampler.totalSize).toBe(sampler.numSamples * worldSize);
        expect(parts.map((part) => part.length)).toEqual(Array.from({ length: worldSize }, () => sampler.length));
        const distinct = new Set(parts.flat());
        expect(distinct.size).toBe(dropLast ? sampler.totalSize : length);
        expect([...distinct].every((index) => index >= 0 && index < length)).toBe(true);
      }),
    );
  });

  test("each iteration gives the indices of the epoch that is set then", () => {
    const sampler = new DistributedSampler("abcdefghijklmnopqrstuvwxyz".split(""), { worldSize: 2, rank: 1 });
    const first = [...sampler];
    expect([...sampler]).toEqual(first);
    expect(sampler.epoch).toBe(0);
    sampler.setEpoch(1);
    expect(sampler.epoch).toBe(1);
    expect([...sampler]).not.toEqual(first);
    expect(sampler.indices()).toEqual(Uint32Array.from(sampler));
    sampler.setEpoch(0);
    expect([...sampler]).toEqual(first);
    expect([sampler.worldSize, sampler.rank, sampler.shuffle, sampler.seed, sampler.dropLast]).toEqual([
      2,
      1,
      true,
      0,
      false,
    ]);
  });

  test("ten million in typed arrays", () => {
    const sampler = new DistributedSampler(10_000_000, { worldSize: 4, rank: 0 });
    const indices = sampler.indices();
    expect(indices).toBeInstanceOf(Uint32Array);
    expect(indices).toHaveLength(2_500_000);
    expect(indices.reduce((sum, index) => sum + index, 0) / indices.length / 10_000_000).toBeCloseTo(0.5, 2);
  });

  test("rank and world size are those of the default group, of a given group, or as given", async () => {
    await localRanks(3, async ({ rank }) => {
      const ofWorld = new DistributedSampler(9);
      expect([ofWorld.rank, ofWorld.worldSize]).toEqual([rank, 3]);
      const pair = await dist.newGroup([2, 1]);
      if (pair === null) {
        expect(() => new DistributedSampler(9, { group: pair as never })).toThrow("one that this rank is in");
      } else {
        const ofPair = new DistributedSampler(9, { group: pair });
        expect([ofPair.rank, ofPair.worldSize]).toEqual([pair.rank, 2]);
      }
      const given = new DistributedSampler(9, { rank: 4, worldSize: 5 });
      expect([given.rank, given.worldSize]).toEqual([4, 5]);
      expect(() => new DistributedSampler(9, { rank: 3 })).toThrow("Invalid rank 3");
      expect(new DistributedSampler(9, { worldSize: 30 }).rank).toBe(rank);
    });
  });

  test("without a group", () => {
    expect(() => new DistributedSampler(9, { rank: 0 })).toThrow("Default process group has not been initialized");
  });

  const dataset = "the length of the dataset must be an integer in 0 to 2^32, got";
  test.each<[length: unknown, reason: string]>([
    [-1, `${dataset} -1`],
    [1.5, `${dataset} 1.5`],
    [Number.NaN, `${dataset} NaN`],
    [2 ** 32 + 1, `${dataset} 4294967297`],
    [5n, `${dataset} bigint 5`],
    ["abc", `${dataset} "abc"`],
    [(a: number) => a, `${dataset} a function`],
    [undefined, `${dataset} undefined`],
    [null, `${dataset} null`],
    [new Map(), `${dataset} Map of length undefined`],
    [{ length: -2 }, `${dataset} Object of length -2`],
  ])("dataset %p is refused", (length, reason) => {
    const make = () => new DistributedSampler(length as number, { worldSize: 2, rank: 0 });
    expect(make).toThrow(InvalidArgumentError);
    expect(make).toThrow(reason);
  });

  test.each<[options: object, reason: string]>([
    [{ worldSize: 2, rank: 2 }, "Invalid rank 2, rank should be in the interval [0, 1]"],
    [{ worldSize: 2, rank: -1 }, "Invalid rank -1, rank should be in the interval [0, 1]"],
    [{ worldSize: 2, rank: 0.5 }, "Invalid rank 0.5, rank should be in the interval [0, 1]"],
    [{ worldSize: 2, rank: "0" }, 'Invalid rank "0", rank should be in the interval [0, 1]'],
    [{ worldSize: 0, rank: 0 }, "worldSize must be a positive integer, got 0"],
    [{ worldSize: 2.5, rank: 0 }, "worldSize must be a positive integer, got 2.5"],
    [{ worldSize: 2, rank: 0, seed: 0.5 }, "seed must be an integer, got 0.5"],
    [{ worldSize: 2, rank: 0, seed: 2 ** 53 }, "write it as a bigint"],
    [{ worldSize: 2, rank: 0, shuffle: 1 }, "shuffle must be true or false, got number 1"],
    [{ worldSize: 2, rank: 0, dropLast: "no" }, 'dropLast must be true or false, got "no"'],
    [{ worldSize: 2, rank: 0, drop_last: true }, "unknown option drop_last"],
  ])("options %p are refused", (options, reason) => {
    expect(() => new DistributedSampler(9, options)).toThrow(InvalidArgumentError);
    expect(() => new DistributedSampler(9, options)).toThrow(reason);
  });

  test.each<unknown>([0.5, Number.NaN, "1", 2 ** 53, undefined])("setEpoch(%p) is refused", (epoch) => {
    const sampler = new DistributedSampler(9, { worldSize: 2, rank: 0 });
    expect(() => sampler.setEpoch(epoch as number)).toThrow(InvalidArgumentError);
    expect(() => sampler.setEpoch(epoch as number)).toThrow("setEpoch takes an integer");
    expect(sampler.epoch).toBe(0);
  });
});
