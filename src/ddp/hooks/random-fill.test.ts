import { describe, expect, test } from "bun:test";
import { Generator } from "../random/index.ts";
import { fillNormal } from "./random-fill.ts";

// The numbers are those of torch.randn() after torch.manual_seed(3), in PyTorch 2.13.

/** The first and the last ones. */
const ends = (values: ArrayLike<number>) => [...Array.from(values).slice(0, 3), ...Array.from(values).slice(-3)];

describe("torch.randn", () => {
  test("a few of float64", () => {
    const values = new Float64Array(5);
    fillNormal(values, "float64", new Generator(3));
    const expected = [
      0.8032760780963507, 0.17483339327910358, 0.08897809502587893, -0.6137180077293578, 0.04618245168476012,
    ];
    for (const [i, value] of expected.entries()) expect(values[i]).toBeCloseTo(value, 14);
  });

  test("20 of float64", () => {
    const values = new Float64Array(20);
    fillNormal(values, "float64", new Generator(3));
    const expected = [
      -0.21774879177876416, 0.1466771298110492, 0.6690811213485476, 0.24243710319485537, 0.7841722963522199,
      -0.9984183369540185,
    ];
    for (const [i, value] of ends(values).entries()) expect(value).toBeCloseTo(expected[i] as number, 13);
  });

  test("20 of float16, rounded from float32", () => {
    const values = new Float16Array(20);
    fillNormal(values, "float16", new Generator(3));
    const expected = [-0.07666015625, 0.35986328125, -0.7822265625, 0.459228515625, 2.435546875, -0.1468505859375];
    for (const [i, value] of ends(values).entries()) expect(value).toBeCloseTo(expected[i] as number, 2);
  });

  test("18 of bfloat16: the last block draws new numbers", () => {
    const values = new Float32Array(18);
    const generator = new Generator(3);
    fillNormal(values, "bfloat16", generator);
    const expected = [-0.07666015625, 0.359375, 0.26171875, 0.458984375, 2.4375, -0.146484375];
    for (const [i, value] of ends(values).entries()) expect(value).toBeCloseTo(expected[i] as number, 2);
    const drawn = new Generator(3);
    for (let i = 0; i < 32; i++) drawn.random();
    expect(generator.random()).toBe(drawn.random());
  });
});
