import { describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../errors/index.ts";
import { type DType, dtypeNames, dtypes } from "./dtype.ts";
import { empty } from "./empty.ts";
import { bufferOf } from "./memory.ts";
import { Tensor } from "./tensor.ts";
import { viewTensor } from "./tensor-view.ts";

describe("empty()", () => {
  test.each([...dtypeNames])("%s: zeros in shared memory, by a number or by sizes", (dtype) => {
    for (const shape of [3, [3], [3, 1], [1, 3, 1]]) {
      const made = empty(dtype, shape);
      const view = viewTensor(made);
      expect([view.dtype, view.length, view.byteLength]).toEqual([dtype, 3, 3 * dtypes[dtype].size]);
      expect(view.data && bufferOf(view.data)).toBeInstanceOf(SharedArrayBuffer);
      if (view.data) expect(Array.from(view.data as Iterable<unknown>, Number).every((n) => n === 0)).toBe(true);
      if (made instanceof Tensor) expect(made.shape).toEqual(typeof shape === "number" ? [shape] : shape);
    }
  });

  test("a TypedArray if that can express dtype and shape", () => {
    expect(empty("float32", 4)).toBeInstanceOf(Float32Array);
    expect(empty("int64", [4]).fill(2n)[3]).toBe(2n);
    expect(empty("float16", 0).length).toBe(0);
    expect(empty("bfloat16", 4)).toBeInstanceOf(Tensor);
    expect(empty("bool", [4]).data).toBeInstanceOf(Uint8Array);
    expect(empty("float32", [2, 3]).shape).toEqual([2, 3]);
    expect(empty("float32", []).length).toBe(1);
  });

  test("its memory cannot be detached", () => {
    const { buffer } = empty("float32", 4);
    expect("transfer" in buffer).toBe(false);
    expect(() => structuredClone(buffer, { transfer: [buffer as unknown as ArrayBuffer] })).toThrow();
    const { port1, port2 } = new MessageChannel();
    expect(() => port1.postMessage(buffer, [buffer as unknown as ArrayBuffer])).toThrow();
    port1.close();
    port2.close();
    expect(buffer.byteLength).toBe(16);
  });

  test.each<[unknown, unknown]>([
    ["float8", 1],
    [undefined, 1],
    ["float32", -1],
    ["float32", 1.5],
    ["float32", Number.NaN],
    ["float32", [2, -1]],
    ["float32", ["2"]],
    ["float32", undefined],
    ["float32", "4"],
    ["float32", [2 ** 40, 2 ** 40]],
  ])("empty(%p, %p) is refused", (dtype, shape) => {
    expect(() => empty(dtype as DType, shape as number)).toThrow(InvalidArgumentError);
  });
});
