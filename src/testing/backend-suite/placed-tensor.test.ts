import { expect, test } from "bun:test";
import { type DType, type TensorStorage, tensor } from "../../tensor/index.ts";
import { PlacedTensor } from "./placed-tensor.ts";
import { hostPlace } from "./tensor-place.ts";

const bytesOf = (values: readonly (number | bigint)[], dtype: DType): Uint8Array => {
  const { buffer, byteOffset, byteLength }: TensorStorage = tensor(values, { dtype }).data;
  return new Uint8Array(buffer, byteOffset, byteLength);
};

test.each([
  ["int32", [1, 2], [1, -3], "element 1 of 2 is 2, expected -3"],
  ["int64", [1n], [2n ** 40n], "element 0 of 1 is 1, expected 1099511627776"],
  ["bfloat16", [0.5], [2], "element 0 of 1 is 0.5, expected 2"],
  ["complex64", [1, 2], [1, 3], "element 0 of 1 is (1, 2), expected (1, 3)"],
  ["float32", [0], [-0], "element 0 of 1 (0) has the bytes 00000000, expected 00000080"],
] as const)("a difference of %s is reported as values", (dtype, is, expected, text) => {
  expect(new PlacedTensor(hostPlace, dtype, bytesOf(is, dtype)).difference(bytesOf(expected, dtype))).toBe(text);
});

test("equal bytes have no difference", () => {
  expect(
    new PlacedTensor(hostPlace, "int8", bytesOf([1, 2], "int8")).difference(bytesOf([1, 2], "int8")),
  ).toBeUndefined();
});
