import { describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../../errors/index.ts";
import { Generator } from "./generator.ts";
import { fillRandn, randn } from "./randn.ts";

const next = (generator: Generator): number => generator.random() % 2 ** 31;

/** Equal but for the rounding of PyTorch's vector code. */
function expectNear(numbers: Float32Array, expected: readonly number[]): void {
  expect(numbers).toHaveLength(expected.length);
  for (const [i, number] of expected.entries()) {
    expect(Math.abs((numbers[i] ?? Number.NaN) - number)).toBeLessThan(1e-6 * Math.max(1, Math.abs(number)));
  }
}

// The numbers are those of PyTorch 2.13, with AVX2.
describe("randn", () => {
  test.each<[n: number, numbers: readonly number[], drawnNext: number]>([
    [3, [0.33669036626815796, 0.12880940735340118, 0.23446236550807953], 670_094_950],
    [
      15,
      [
        0.33669036626815796, 0.12880940735340118, 0.23446236550807953, 0.23033303022384644, -1.1228563785552979,
        -0.18632829189300537, 2.2082014083862305, -0.637997031211853, 0.46165722608566284, 0.2673508822917938,
        0.5349046587944031, 0.809357225894928, 1.110290288925171, -1.6897989511489868, -0.9889599084854126,
      ],
      1_306_710_475,
    ],
    [
      16,
      [
        1.9269152879714966, 1.4872840642929077, 0.9007171988487244, -2.1055209636688232, 0.6784184575080872,
        -1.2345448732376099, -0.04306747764348984, -1.6046669483184814, -0.7521352767944336, 1.6487230062484741,
        -0.3924786448478699, -1.4036071300506592, -0.7278813123703003, -0.5594301819801331, -0.7688388824462891,
        0.7624453902244568,
      ],
      434_285_667,
    ],
    [
      19,
      [
        1.9269152879714966, 1.4872840642929077, 0.9007171988487244, 0.439589262008667, -0.7581311464309692,
        1.078317642211914, 0.8008005619049072, 1.680620551109314, 0.3558599054813385, -0.6866229772567749,
        -0.4933563470840454, 1.334737777709961, -0.2316243201494217, 0.041759490966796875, -0.2515752911567688,
        0.859858512878418, -0.3097267745925354, -0.3957104980945587, 0.8034093379974365,
      ],
      30_349_564,
    ],
  ])("of %d", (n, numbers, drawnNext) => {
    const generator = new Generator(42);
    expectNear(randn(n, generator), numbers);
    expect(next(generator)).toBe(drawnNext);
  });

  test("the second number of a pair waits for the next short one, past a long one", () => {
    const generator = new Generator(7);
    expectNear(randn(1, generator), [-0.1467950940132141]);
    expectNear(randn(16, generator).subarray(0, 2), [-0.16699601709842682, 0.2851499617099762]);
    expectNear(randn(1, generator), [0.7861412763595581]);
    expectNear(randn([2], generator), [0.317678302526474, 0.13280697166919708]);
    expect(next(generator)).toBe(1_636_129_708);
  });

  test("a shape is flat, in row-major order, and may be empty", () => {
    expect(randn([4, 2, 3], new Generator(1))).toEqual(randn(24, new Generator(1)));
    expect(randn([], new Generator(1))).toEqual(randn(1, new Generator(1)));
    expect(randn([3, 0], new Generator(1))).toHaveLength(0);
    expect(randn(0, new Generator(1))).toHaveLength(0);
  });

  test("fillRandn() writes into a part of shared memory", () => {
    const memory = new Float32Array(new SharedArrayBuffer(4 * 30));
    fillRandn(memory.subarray(5, 25), new Generator(1));
    expect([...memory]).toEqual([0, 0, 0, 0, 0, ...randn(20, new Generator(1)), 0, 0, 0, 0, 0]);
  });

  test.each<unknown>([new Float64Array(3), [0, 0], 3, null])("fillRandn(%p) is refused", (numbers) => {
    expect(() => fillRandn(numbers as Float32Array, new Generator())).toThrow(InvalidArgumentError);
    expect(() => fillRandn(numbers as Float32Array, new Generator())).toThrow("it takes a Float32Array");
  });

  test("mean and variance of many", () => {
    const numbers = randn(1_000_000, new Generator(5));
    const mean = numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
    const variance = numbers.reduce((sum, number) => sum + (number - mean) ** 2, 0) / numbers.length;
    expect(Math.abs(mean)).toBeLessThan(0.005);
    expect(Math.abs(variance - 1)).toBeLessThan(0.01);
  });

  test.each<[shape: unknown, reason: string]>([
    [-1, "shape [-1] has a size"],
    [[2, -3], "shape [2, -3] has a size"],
    [[2, 1.5], "shape [2, 1.5] has a size"],
    [Number.NaN, "shape [NaN] has a size"],
    ["3", "shape must be a number of elements or a list of sizes"],
    [undefined, "shape must be a number of elements or a list of sizes"],
    [2 ** 50, "cannot allocate"],
  ])("shape %p is refused", (shape, reason) => {
    expect(() => randn(shape as number, new Generator())).toThrow(InvalidArgumentError);
    expect(() => randn(shape as number, new Generator())).toThrow(reason);
  });
});
