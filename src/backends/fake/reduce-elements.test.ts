import { describe, expect, test } from "bun:test";
import { ReduceOp } from "../../collectives/index.ts";
import { UnsupportedOperationError } from "../../errors/index.ts";
import { type DType, dtypeNames, tensor } from "../../tensor/index.ts";
import { capabilities } from "./capabilities.ts";
import { elementsOf } from "./element-bytes.ts";
import { reduceElements } from "./reduce-elements.ts";

type Values = readonly (number | bigint)[];
type Row = readonly [dtype: DType, op: ReduceOp, inputs: readonly Values[], expected: Values];

const { SUM, AVG, PRODUCT, MIN, MAX, BAND, BOR, BXOR } = ReduceOp;
const half = ReduceOp.premulSum(0.5);

function reduced(dtype: DType, op: ReduceOp, inputs: readonly Values[]): Values {
  const bytes = inputs.map((input) => new Uint8Array(tensor(input, { dtype }).data.buffer));
  return Array.from(elementsOf(reduceElements(dtype, op, bytes), dtype) as ArrayLike<number | bigint>);
}

// Worked out by hand.
const rows: readonly Row[] = [
  [
    "float32",
    SUM,
    [
      [1, 2],
      [10, 20],
      [100, 200],
    ],
    [111, 222],
  ],
  ["float32", SUM, [[0.1], [0.2]], [Math.fround(Math.fround(0.1) + Math.fround(0.2))]],
  ["float32", SUM, [[2 ** 24], [1], [1]], [2 ** 24]],
  ["float64", SUM, [[2 ** 24], [1], [1]], [2 ** 24 + 2]],
  [
    "float64",
    AVG,
    [
      [1, -4],
      [2, -5],
    ],
    [1.5, -4.5],
  ],
  ["float32", AVG, [[1], [1], [2]], [Math.fround(4 / 3)]],
  [
    "float32",
    PRODUCT,
    [
      [1.5, -2],
      [4, 3],
    ],
    [6, -6],
  ],
  [
    "float32",
    MIN,
    [
      [1, -1, Number.NaN],
      [2, -2, 0],
    ],
    [1, -2, Number.NaN],
  ],
  [
    "float32",
    MAX,
    [
      [1, -1, 0],
      [2, -2, Number.NaN],
    ],
    [2, -1, Number.NaN],
  ],
  [
    "float32",
    half,
    [
      [2, 3],
      [4, 5],
    ],
    [3, 4],
  ],
  ["float16", SUM, [[2048], [1]], [2048]],
  ["float16", SUM, [[65504], [65504]], [Number.POSITIVE_INFINITY]],
  ["float16", PRODUCT, [[0.5], [3]], [1.5]],
  // As bits: 1 is 0x3f80, 2 is 0x4000, 3 is 0x4040, 256 is 0x4380; 256 + 1 rounds to even.
  ["bfloat16", SUM, [[1], [2]], [0x4040]],
  ["bfloat16", SUM, [[256], [1]], [0x4380]],
  ["bfloat16", AVG, [[1], [3]], [0x4000]],
  ["bfloat16", MAX, [[-1], [2]], [0x4000]],
  ["bfloat16", half, [[4], [2]], [0x4040]],
  [
    "int8",
    SUM,
    [
      [127, -128],
      [1, -1],
    ],
    [-128, 127],
  ],
  ["int8", PRODUCT, [[100], [3]], [44]],
  ["int8", AVG, [[-5], [0]], [-2]],
  ["uint8", SUM, [[255], [2]], [1]],
  ["uint8", BAND, [[0b1100], [0b1010]], [0b1000]],
  ["uint8", BOR, [[0b1100], [0b1010]], [0b1110]],
  ["uint8", BXOR, [[0b1100], [0b1010]], [0b0110]],
  [
    "int16",
    MIN,
    [
      [-3, 4],
      [3, -4],
    ],
    [-3, -4],
  ],
  ["uint16", PRODUCT, [[65535], [65535]], [1]],
  ["int32", SUM, [[2147483647], [1]], [-2147483648]],
  ["int32", PRODUCT, [[65537], [65537]], [131073]],
  ["int32", BXOR, [[-1], [1]], [-2]],
  ["uint32", PRODUCT, [[4294967295], [4294967295]], [1]],
  ["uint32", BOR, [[0x80000000], [1]], [0x80000001]],
  ["uint32", MAX, [[0x80000000], [1]], [0x80000000]],
  ["int64", SUM, [[9223372036854775807n], [1n]], [-9223372036854775808n]],
  ["int64", PRODUCT, [[4294967297n], [4294967297n]], [8589934593n]],
  ["int64", AVG, [[-5n], [0n]], [-2n]],
  [
    "int64",
    MIN,
    [
      [-1n, 5n],
      [1n, 4n],
    ],
    [-1n, 4n],
  ],
  [
    "int64",
    MAX,
    [
      [-1n, 5n],
      [1n, 4n],
    ],
    [1n, 5n],
  ],
  ["uint64", SUM, [[18446744073709551615n], [2n]], [1n]],
  ["uint64", MAX, [[18446744073709551615n], [2n]], [18446744073709551615n]],
  ["uint64", BAND, [[0xf0f0n], [0xff00n]], [0xf000n]],
  [
    "bool",
    SUM,
    [
      [0, 0, 1, 1],
      [0, 1, 0, 1],
    ],
    [0, 1, 1, 1],
  ],
  [
    "bool",
    PRODUCT,
    [
      [0, 0, 1, 1],
      [0, 1, 0, 1],
    ],
    [0, 0, 0, 1],
  ],
  [
    "bool",
    MIN,
    [
      [0, 0, 1, 1],
      [0, 1, 0, 1],
    ],
    [0, 0, 0, 1],
  ],
  [
    "bool",
    MAX,
    [
      [0, 0, 1, 1],
      [0, 1, 0, 1],
    ],
    [0, 1, 1, 1],
  ],
  [
    "bool",
    BAND,
    [
      [0, 0, 1, 1],
      [0, 1, 0, 1],
    ],
    [0, 0, 0, 1],
  ],
  [
    "bool",
    BOR,
    [
      [0, 0, 1, 1],
      [0, 1, 0, 1],
    ],
    [0, 1, 1, 1],
  ],
  [
    "bool",
    BXOR,
    [
      [0, 0, 1, 1],
      [0, 1, 0, 1],
    ],
    [0, 1, 1, 0],
  ],
  [
    "complex64",
    SUM,
    [
      [1, 2],
      [3, -4],
    ],
    [4, -2],
  ],
  [
    "complex64",
    PRODUCT,
    [
      [1, 2],
      [3, 4],
    ],
    [-5, 10],
  ],
  [
    "complex128",
    AVG,
    [
      [1, 2],
      [3, -4],
    ],
    [2, -1],
  ],
  [
    "complex128",
    PRODUCT,
    [
      [0, 1],
      [0, 1],
      [2, 0],
    ],
    [-2, 0],
  ],
  [
    "complex128",
    half,
    [
      [1, 2],
      [3, 4],
    ],
    [2, 3],
  ],
];

describe("reduceElements", () => {
  test.each(rows)("%s %s, row %#", (dtype, op, inputs, expected) => {
    expect(reduced(dtype, op, inputs)).toEqual([...expected]);
  });

  test("the result is new memory, even for a single rank", () => {
    const input = Uint8Array.of(1, 2);
    expect(reduceElements("uint8", SUM, [input])).toEqual(input);
    expect(reduceElements("uint8", SUM, [input]).buffer).not.toBe(input.buffer);
    expect(reduced("float32", half, [[3]])).toEqual([1.5]);
  });

  test("pairs without a meaning are refused, all others are not", () => {
    const ops = [SUM, AVG, PRODUCT, MIN, MAX, BAND, BOR, BXOR, half];
    for (const dtype of dtypeNames) {
      for (const op of ops) {
        const run = () =>
          reduced(dtype, op, [
            [1, 0],
            [1, 0],
          ]);
        if (capabilities.reduceOps[dtype]?.includes(op.name)) expect(run).not.toThrow();
        else expect(run).toThrow(UnsupportedOperationError);
      }
    }
  });
});
