import { describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../../errors/index.ts";
import { RandomState } from "./random-state.ts";

// The numbers are those of numpy 2.4.
describe("RandomState", () => {
  test.each<[seed: number, numbers: readonly number[]]>([
    [0, [209_652_396, 398_764_591, 924_231_285, 404_868_288, 441_365_315, 463_622_907]],
    [1234, [822_569_775, 524_453_158, 291_363_893, 806_284_492, 481_516_916, 151_863_960]],
    [2 ** 32 - 1, [419_326_371, 479_346_978, 697_429_004, 269_265_991, 167_655_348, 113_049_152]],
  ])("seed %d", (seed, numbers) => {
    const random = new RandomState(seed);
    expect(numbers.map(() => random.randint(1_000_000_000))).toEqual([...numbers]);
  });

  test("any bound up to 2^32; one number needs no draw", () => {
    const random = new RandomState(5);
    const bounds = [1, 2, 3, 10, 2 ** 31, 2 ** 31 + 1, 2 ** 32 - 1, 2 ** 32];
    const numbers = [0, 1, 2, 6, 1_562_238_070, 2_097_710_088, 385_778_404, 2_627_419_879];
    expect(bounds.map((high) => random.randint(high))).toEqual(numbers);
  });

  test.each<unknown>([-1, 2 ** 32, 1.5, Number.NaN, "1", null, 1n])("seed %p is refused", (seed) => {
    expect(() => new RandomState(seed as number)).toThrow(InvalidArgumentError);
    expect(() => new RandomState(seed as number)).toThrow("Seed must be between 0 and 2**32 - 1");
  });

  test.each<unknown>([0, -3, 2 ** 32 + 1, 1.5, Number.NaN, "1", undefined])("randint(%p) is refused", (high) => {
    expect(() => new RandomState(0).randint(high as number)).toThrow(InvalidArgumentError);
    expect(() => new RandomState(0).randint(high as number)).toThrow("high must be an integer in 1 to 2^32");
  });
});
