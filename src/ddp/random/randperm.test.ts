import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { InvalidArgumentError } from "../../errors/index.ts";
import { Generator } from "./generator.ts";
import { randperm, shuffleLong } from "./randperm.ts";

// The numbers are those of PyTorch 2.13.
describe("randperm", () => {
  test.each<[n: number, seed: number, elements: readonly number[]]>([
    [0, 0, []],
    [1, 0, [0]],
    [12, 0, [8, 0, 5, 9, 7, 4, 2, 10, 3, 1, 11, 6]],
    [12, 42, [6, 8, 1, 7, 0, 2, 10, 11, 4, 3, 5, 9]],
    [7, 123_456_789_012_345, [4, 6, 2, 3, 1, 5, 0]],
  ])("of %d with seed %d", (n, seed, elements) => {
    expect(randperm(n, new Generator(seed))).toEqual(Uint32Array.from(elements));
  });

  test("of 100,000, and what is drawn next", () => {
    const generator = new Generator(42);
    const elements = randperm(100_000, generator);
    expect([...elements.subarray(0, 4)]).toEqual([37_542, 60_279, 68_544, 70_051]);
    expect([...elements.subarray(-4)]).toEqual([77_199, 44_288, 94_835, 53_243]);
    expect(generator.random() % 2 ** 31).toBe(1_609_440_717);
  });

  test("a permutation of any length draws one number less than it has elements", () => {
    fc.assert(
      fc.property(fc.nat(500), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }), (n, seed) => {
        const [generator, other] = [new Generator(seed), new Generator(seed)];
        expect(randperm(n, generator).sort()).toEqual(Uint32Array.from({ length: n }, (_, i) => i));
        for (let i = 0; i < n - 1; i++) other.random();
        expect(generator.random()).toBe(other.random());
      }),
    );
  });

  test("long ones, with 64 bits per element", () => {
    const [generator, other] = [new Generator(9), new Generator(9)];
    const elements = new Uint32Array(3000);
    shuffleLong(elements, generator);
    const expected: number[] = [];
    for (let i = 0; i < elements.length; i++) {
      const place = Number(other.random64() % BigInt(i + 1));
      expected.push(i);
      [expected[i], expected[place]] = [expected[place] ?? 0, i];
    }
    expect([...elements]).toEqual(expected);
    expect(generator.random()).toBe(other.random());
    expect(elements.sort()).toEqual(Uint32Array.from({ length: 3000 }, (_, i) => i));
  });

  test.each<unknown>([-1, 1.5, Number.NaN, 2 ** 32 + 1, "3", 3n, null, undefined])("n = %p is refused", (n) => {
    expect(() => randperm(n as number, new Generator())).toThrow(InvalidArgumentError);
    expect(() => randperm(n as number, new Generator())).toThrow("n must be an integer in 0 to 2^32");
  });
});
