import { describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../../errors/index.ts";
import { Generator } from "./generator.ts";

// The numbers are those of PyTorch 2.13.
describe("Generator", () => {
  /** As `torch.empty((), dtype=torch.int32).random_()`, which leaves out the sign. */
  const int32 = (generator: Generator): number => generator.random() % 2 ** 31;

  test.each<[seed: number | bigint, initial: bigint, numbers: readonly number[]]>([
    [0, 0n, [209_652_396, 398_764_591, 924_231_285]],
    [-1, 2n ** 64n - 1n, [419_326_371, 479_346_978, 1_771_170_828]],
    [2 ** 32 + 1, 2n ** 32n + 1n, [1_791_095_845, 2_135_392_491, 946_286_476]],
    [2n ** 63n + 7n, 2n ** 63n + 7n, [327_741_615, 976_413_892, 1_202_242_073]],
    [2n ** 64n - 1n, 2n ** 64n - 1n, [419_326_371, 479_346_978, 1_771_170_828]],
    [-(2n ** 63n), 2n ** 63n, [209_652_396, 398_764_591, 924_231_285]],
  ])("seed %p", (seed, initial, numbers) => {
    for (const generator of [new Generator(seed), new Generator().manualSeed(seed)]) {
      expect(generator.initialSeed()).toBe(initial);
      expect(numbers.map(() => int32(generator))).toEqual([...numbers]);
    }
  });

  test("the default seed", () => {
    expect(new Generator().initialSeed()).toBe(67_280_421_310_721n);
    expect(new Generator().random()).toBe(new Generator(67_280_421_310_721n).random());
  });

  test("64 bits, and uniform numbers", () => {
    const generator = new Generator(42);
    expect([generator.random64(), generator.random64()]).toEqual([
      6_909_045_637_428_952_499n,
      17_537_583_593_393_853_710n,
    ]);
    generator.manualSeed(42);
    const numbers = [generator.uniform(), generator.uniform(), generator.uniform()];
    expect(numbers).toEqual([0.8822692632675171, 0.9150039553642273, 0.38286375999450684]);
    expect([generator.uniformDouble(), generator.uniformDouble()]).toEqual([0.6744455013246242, 0.8071630471508437]);
  });

  test("normal numbers come in pairs, and a new seed drops the second one", () => {
    const generator = new Generator(42);
    const [first, second] = [generator.normal(), generator.normal()];
    expect(first).toBeCloseTo(0.33669036626815796, 7);
    expect(second).toBeCloseTo(0.12880940735340118, 7);
    generator.manualSeed(42).normal();
    expect(generator.manualSeed(42).normal()).toBe(first);
    expect(generator.normal()).toBe(second);
  });

  test.each<unknown>([
    0.5,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    2 ** 53,
    "1",
    null,
    true,
    -(2n ** 63n) - 1n,
    2n ** 64n,
  ])("seed %p is refused", (seed) => {
    expect(() => new Generator(seed as number)).toThrow(InvalidArgumentError);
    expect(() => new Generator().manualSeed(seed as number)).toThrow("manualSeed: seed must be");
  });

  test("a refused seed changes nothing", () => {
    const generator = new Generator(3);
    expect(() => generator.manualSeed(2n ** 64n)).toThrow("-2^63 to 2^64 - 1");
    expect(generator.random()).toBe(new Generator(3).random());
  });
});
