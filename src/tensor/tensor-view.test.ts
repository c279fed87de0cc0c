import { describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../errors/index.ts";
import { CPU } from "./device.ts";
import { type DType, dtypes } from "./dtype.ts";
import { isDetached } from "./memory.ts";
import { Tensor, tensor } from "./tensor.ts";
import { type ForeignTensor, TENSOR_PROTOCOL, type TensorLike, type TensorView, viewTensor } from "./tensor-view.ts";

const arrays: readonly [DType, TensorLike][] = [
  ["float32", new Float32Array(3)],
  ["float64", new Float64Array(3)],
  ["float16", new Float16Array(3)],
  ["int8", new Int8Array(3)],
  ["uint8", new Uint8Array(3)],
  ["int16", new Int16Array(3)],
  ["uint16", new Uint16Array(3)],
  ["int32", new Int32Array(3)],
  ["uint32", new Uint32Array(3)],
  ["int64", new BigInt64Array(3)],
  ["uint64", new BigUint64Array(3)],
];

function bytesOf({ data }: TensorView): Uint8Array {
  if (data instanceof Uint8Array) return data;
  throw new TypeError("the view has no bytes");
}

/** Anything, where the types ask for a tensor. */
const untyped = (value: unknown): TensorLike => value as TensorLike;

function foreign(fields: Partial<Record<keyof ForeignTensor, unknown>> = {}): TensorLike {
  return untyped({ [TENSOR_PROTOCOL]: () => ({ ptr: 0x1000, byteLength: 16, dtype: "float32", ...fields }) });
}

function refusal(value: unknown, argument?: string): InvalidArgumentError {
  try {
    viewTensor(untyped(value), argument);
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidArgumentError);
    return error as InvalidArgumentError;
  }
  throw new Error("it was taken");
}

describe("viewTensor", () => {
  test.each([...arrays])("a TypedArray of %s", (dtype, array) => {
    const { size } = dtypes[dtype];
    expect(viewTensor(array)).toEqual({
      source: array,
      data: array as Float32Array,
      ptr: 0,
      dtype,
      length: 3,
      byteLength: 3 * size,
      device: CPU,
    });
  });

  test("a view with an offset keeps it", () => {
    const array = new Int16Array(new ArrayBuffer(20), 4, 5);
    const view = viewTensor(array);
    expect(view.data).toBe(array);
    expect([view.length, view.byteLength, view.data?.byteOffset]).toEqual([5, 10, 4]);
    const part = new Float64Array(8).subarray(2, 5);
    expect([viewTensor(part).length, viewTensor(part).data?.byteOffset]).toEqual([3, 16]);
  });

  test("a Buffer is uint8", () => {
    const buffer = Buffer.from("abcdef").subarray(1, 4);
    const view = viewTensor(buffer);
    expect([view.dtype, view.length]).toEqual(["uint8", 3]);
    expect(view.source).toBe(buffer);
  });

  test("subclasses and arrays of another realm are tensors", () => {
    class Weights extends Float32Array {}
    expect(viewTensor(new Weights(2)).dtype).toBe("float32");
    const { runInNewContext } = require("node:vm") as typeof import("node:vm");
    expect(viewTensor(untyped(runInNewContext("new Float32Array(4)"))).length).toBe(4);
    expect(viewTensor(untyped(runInNewContext("new BigInt64Array(4)"))).dtype).toBe("int64");
  });

  test("clamped bytes are uint8, and results are not clamped", () => {
    const clamped = new Uint8ClampedArray([1, 2, 3]);
    const view = viewTensor(clamped.subarray(1));
    expect([view.dtype, view.length, view.source]).toEqual(["uint8", 2, clamped.subarray(1)]);
    bytesOf(view).set([257, 7]);
    expect([...clamped]).toEqual([1, 1, 7]);
  });

  test("overridden properties of an array are ignored", () => {
    class Liar extends Float32Array {
      override get byteLength(): number {
        return 2 ** 40;
      }
      override get length(): number {
        return 2 ** 38;
      }
      override get [Symbol.toStringTag](): "Float32Array" {
        return "Float64Array" as "Float32Array";
      }
    }
    const own = Object.defineProperties(new Float64Array(3), {
      byteLength: { value: 2 ** 40 },
      buffer: { value: new ArrayBuffer(0) },
      [Symbol.toStringTag]: { value: "Int8Array" },
    });
    expect(viewTensor(new Liar(3))).toMatchObject({ dtype: "float32", length: 3, byteLength: 12 });
    expect(viewTensor(own)).toMatchObject({ dtype: "float64", length: 3, byteLength: 24 });
    const gone = new Liar(3);
    gone.buffer.transfer();
    expect(refusal(gone).code).toBe("DETACHED_BUFFER");
    expect(refusal(Object.create(Float32Array.prototype)).message).toContain("must be a TypedArray");
  });

  test("a Tensor with inconsistent fields is refused", () => {
    expect(refusal(new Tensor(new Uint8Array(3), "float32", [1])).message).toContain("not a whole number of float32");
    expect(refusal(new Tensor(new Uint8Array(4), "uint8", [1000])).message).toContain(
      "[1000] does not hold its 4 elements",
    );
    expect(refusal(new Tensor([1] as unknown as Uint8Array, "uint8", [1])).message).toContain("an array of 1");
    expect(refusal(new Tensor(new Uint8Array(4), "float8" as DType, [1])).message).toContain('"float8"');
  });

  test("shared memory is a tensor, empty or not", () => {
    expect(viewTensor(new Float32Array(new SharedArrayBuffer(12))).length).toBe(3);
    expect(viewTensor(new Float32Array(new SharedArrayBuffer(0))).length).toBe(0);
  });

  test("an empty array is a tensor of no elements", () => {
    expect(viewTensor(new Float32Array(0)).length).toBe(0);
    expect(viewTensor(new Float32Array(8).subarray(8)).length).toBe(0);
  });

  test("tensor() of any dtype", () => {
    const made = tensor([1, 2, 3, 4], { dtype: "complex128", shape: [2, 1] });
    const view = viewTensor(made);
    expect(view.source).toBe(made);
    expect(view.data).toBe(made.data);
    expect([view.dtype, view.length, view.byteLength]).toEqual(["complex128", 2, 32]);
  });

  test("a detached buffer is refused with its own code", () => {
    for (const array of [new Float32Array(3), new BigInt64Array(3), Buffer.from(new ArrayBuffer(64))]) {
      array.buffer.transfer();
      expect(isDetached(array)).toBe(true);
      const error = refusal(array, "output");
      expect(error.code).toBe("DETACHED_BUFFER");
      expect(error.message).toStartWith("output: its ArrayBuffer is detached");
      expect(error.details.argument).toBe("output");
    }
    const bits = new Uint16Array(2);
    const made = tensor(bits, { dtype: "bfloat16" });
    bits.buffer.transfer();
    expect(refusal(made).code).toBe("DETACHED_BUFFER");
  });

  test("a view that is out of bounds of its shrunk buffer is refused", () => {
    const buffer = new ArrayBuffer(32, { maxByteLength: 64 });
    const fixed = new Float32Array(buffer, 16, 4);
    const tracking = new Float32Array(buffer);
    buffer.resize(8);
    expect(viewTensor(tracking).length).toBe(2);
    expect(refusal(fixed).code).toBe("DETACHED_BUFFER");
  });

  test.each([
    ["a DataView", new DataView(new ArrayBuffer(8)), "DataView"],
    ["an ArrayBuffer", new ArrayBuffer(8), "ArrayBuffer"],
    ["an array", [1, 2, 3], "an array of 3"],
    ["a number", 3, "number 3"],
    ["text", "abc", '"abc"'],
    ["null", null, "null"],
    ["nothing", undefined, "undefined"],
    ["a plain object", {}, "Object"],
    ["an object without prototype", Object.create(null), "an object"],
    ["a function", () => 0, "a function"],
    ["a symbol", Symbol("s"), "symbol"],
    ["a forged tag", { [Symbol.toStringTag]: "Float32Array", byteLength: 4 }, "Object"],
  ])("%s is not a tensor", (_, value, described) => {
    const error = refusal(value, "input");
    expect(error.message).toStartWith("input must be a TypedArray, a tensor()");
    expect(error.message).toContain(`got ${described}`);
    expect(error.details.argument).toBe("input");
  });
});

describe("the tensor protocol", () => {
  test("provides address, size, dtype; the CPU by default", () => {
    const source = foreign();
    expect(viewTensor(source)).toEqual({
      source,
      data: undefined,
      ptr: 0x1000,
      dtype: "float32",
      length: 4,
      byteLength: 16,
      device: CPU,
    });
  });

  test("its key is a registered symbol", () => {
    expect(TENSOR_PROTOCOL).toBe(Symbol.for("c10d.tensor") as typeof TENSOR_PROTOCOL);
  });

  test.each([
    ["cpu", { type: "cpu", index: 0 }],
    ["cuda", { type: "cuda", index: 0 }],
    ["cuda:3", { type: "cuda", index: 3 }],
    [
      { type: "cuda", index: 1 },
      { type: "cuda", index: 1 },
    ],
  ])("device %j", (device, expected) => {
    expect(viewTensor(foreign({ device })).device as unknown).toEqual(expected);
  });

  test("an empty one needs no address", () => {
    expect(viewTensor(foreign({ ptr: 0, byteLength: 0 })).length).toBe(0);
  });

  test("is called again for each op", () => {
    let ptr = 0x1000;
    const moving = { [TENSOR_PROTOCOL]: (): ForeignTensor => ({ ptr, byteLength: 4, dtype: "float32" }) };
    expect(viewTensor(moving).ptr).toBe(0x1000);
    ptr = 0x2000;
    expect(viewTensor(moving).ptr).toBe(0x2000);
  });

  test.each([
    ["unknown dtype float8", { dtype: "float8" }],
    ["unknown dtype undefined", { dtype: undefined }],
    ["byteLength 6 is not a whole number of float32 elements", { byteLength: 6 }],
    ["byteLength -4", { byteLength: -4 }],
    ["byteLength 4.5", { byteLength: 4.5 }],
    ['byteLength "16"', { byteLength: "16" }],
    ["ptr 0 is not an address", { ptr: 0 }],
    ["ptr -8 is not an address", { ptr: -8 }],
    ["ptr NaN is not an address", { ptr: Number.NaN }],
    ["ptr bigint 16 is not an address", { ptr: 16n }],
    ["extend beyond 2^53", { ptr: Number.MAX_SAFE_INTEGER }],
    ["ptr 4294967296.5 is not an address", { ptr: 2 ** 32 + 0.5 }],
    ["ptr symbol Symbol(p) is not an address", { ptr: Symbol("p") }],
    ["ptr 4098 is not the address of float32 elements on a device", { ptr: 4098, device: "cuda:1" }],
    ["which is a multiple of 8", { ptr: 4100, dtype: "complex128", device: "cuda" }],
    ['unknown device "tpu"', { device: "tpu" }],
    ['unknown device "cuda:x"', { device: "cuda:x" }],
    ['unknown device "cuda:99999999999999999999"', { device: "cuda:99999999999999999999" }],
    ['unknown device "cpu:1"', { device: "cpu:1" }],
    ['unknown device ""', { device: "" }],
    ["unknown device null", { device: null }],
    ["unknown device", { device: 0 }],
    ["unknown device", { device: { type: "tpu", index: 0 } }],
    ["unknown device", { device: { type: "cuda", index: -1 } }],
    ["unknown device", { device: {} }],
  ])("%s: refused", (message, fields) => {
    expect(refusal(foreign(fields)).message).toContain(message);
  });

  test.each([
    ["no method", { [TENSOR_PROTOCOL]: 5 }],
    ["returns nothing", { [TENSOR_PROTOCOL]: () => undefined }],
    ["returns null", { [TENSOR_PROTOCOL]: () => null }],
    ["returns a number", { [TENSOR_PROTOCOL]: () => 5 }],
  ])("an object whose protocol is broken is refused: %s", (_, value) => {
    expect(refusal(value).message).toContain("c10d.tensor");
  });
});
