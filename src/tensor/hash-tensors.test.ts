import { ptr } from "bun:ffi";
import { describe, expect, test } from "bun:test";
import { InvalidArgumentError, UnsupportedOperationError } from "../errors/index.ts";
import { hashTensors } from "./hash-tensors.ts";
import { tensor } from "./tensor.ts";
import { TENSOR_PROTOCOL, type TensorLike } from "./tensor-view.ts";

const mask = (1n << 64n) - 1n;
const combine = (seed: bigint, value: bigint) =>
  (seed ^ ((value + 0x9e3779b9n + ((seed << 6n) & mask) + (seed >> 2n)) & mask)) & mask;

/** The formula as it stands. */
function reference(tensors: readonly Uint8Array[]): bigint {
  let hash = 0n;
  for (const bytes of tensors) {
    for (const byte of bytes) hash = combine(hash, combine(BigInt(bytes.length), BigInt((byte << 24) >> 24) & mask));
  }
  return hash;
}

const foreign = (data: Uint8Array, device: string): TensorLike => ({
  [TENSOR_PROTOCOL]: () => ({ ptr: ptr(data), byteLength: data.byteLength, dtype: "uint8", device }),
});

describe("hashTensors", () => {
  // By a C++ program over PyTorch's c10/util/hash.h.
  test("is PyTorch's", () => {
    expect(hashTensors([])).toBe(0n);
    expect(hashTensors([Uint8Array.from({ length: 300 }, (_, i) => i)])).toBe(8690782955623420393n);
    expect(hashTensors([Float32Array.of(1, -2.5), new Uint8Array(0), Uint8Array.of(255)])).toBe(16540686478485052393n);
  });

  test("is that of the formula, for any bytes", () => {
    for (let i = 0; i < 100; i++) {
      const tensors = [i, 2 * i + 1].map((length) => crypto.getRandomValues(new Uint8Array(length)));
      expect(hashTensors(tensors)).toBe(reference(tensors));
    }
  });

  test("covers the elements of a view, of a shaped tensor, and of foreign memory alike", () => {
    const bytes = Uint8Array.of(1, 2, 3, 4);
    const hash = hashTensors([bytes]);
    expect(hashTensors([Uint8Array.of(9, 1, 2, 3, 4).subarray(1)])).toBe(hash);
    expect(hashTensors([tensor(bytes, { dtype: "uint8", shape: [2, 2] })])).toBe(hash);
    expect(hashTensors([foreign(bytes, "cpu")])).toBe(hash);
    expect(hashTensors([Uint8Array.of(1, 2), Uint8Array.of(3, 4)])).not.toBe(hash);
  });

  test("takes a few milliseconds per megabyte", () => {
    const data = new Float32Array(1 << 20).fill(1.5);
    hashTensors([data.subarray(0, 1 << 16)]);
    const began = performance.now();
    hashTensors([data]);
    // A BigInt per byte takes seconds.
    expect(performance.now() - began).toBeLessThan(500);
  });

  test("refuses device memory, and what is not a list of tensors", () => {
    expect(() => hashTensors([foreign(Uint8Array.of(1), "cuda:1")])).toThrow(UnsupportedOperationError);
    expect(() => hashTensors([foreign(Uint8Array.of(1), "cuda:1")])).toThrow("tensors[0] is on cuda:1");
    expect(() => hashTensors(new Float32Array(1) as unknown as TensorLike[])).toThrow(InvalidArgumentError);
    expect(() => hashTensors([1 as unknown as TensorLike])).toThrow("hashTensors: tensors[0]");
  });
});
