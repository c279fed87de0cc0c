import { describe, expect, test } from "bun:test";
import { runInNewContext } from "node:vm";
import {
  bufferOf,
  byteLengthOf,
  bytesOf,
  isDetached,
  isWhole,
  memoryKindOf,
  memoryOf,
  typedArrayName,
} from "./memory.ts";

describe("memory", () => {
  test("its kind is that of the buffer, in any realm and whatever the prototype says", () => {
    const foreign = (code: string) => new Float32Array(runInNewContext(code) as ArrayBuffer);
    expect(memoryKindOf(new Float32Array(1))).toBe("fixed");
    expect(memoryKindOf(foreign("new ArrayBuffer(4)"))).toBe("fixed");
    expect(memoryKindOf(new Float32Array(new ArrayBuffer(4, { maxByteLength: 8 })))).toBe("resizable");
    expect(memoryKindOf(foreign("new ArrayBuffer(4, { maxByteLength: 8 })"))).toBe("resizable");
    expect(memoryKindOf(new Float32Array(new SharedArrayBuffer(4)))).toBe("shared");
    expect(memoryKindOf(new Float32Array(new SharedArrayBuffer(4, { maxByteLength: 8 })))).toBe("shared");
    const lying = new ArrayBuffer(4, { maxByteLength: 8 });
    Object.setPrototypeOf(lying, SharedArrayBuffer.prototype);
    expect(memoryKindOf(new Float32Array(lying))).toBe("resizable");
    const shared = new SharedArrayBuffer(4);
    Object.setPrototypeOf(shared, ArrayBuffer.prototype);
    expect(() => memoryKindOf(new Float32Array(shared))).toThrow(TypeError);
  });

  test("overridden properties of an array are ignored", () => {
    const lying = Object.defineProperties(new Int16Array(4), {
      byteLength: { value: 1 },
      byteOffset: { value: 1 },
      buffer: { value: new ArrayBuffer(1) },
    });
    expect([byteLengthOf(lying), bufferOf(lying).byteLength, bytesOf(lying).length]).toEqual([8, 8, 8]);
    expect(memoryOf(lying)).toMatchObject({ byteOffset: 0, byteLength: 8 });
    expect(typedArrayName(lying)).toBe("Int16Array");
    expect(typedArrayName({ [Symbol.toStringTag]: "Int16Array" })).toBeUndefined();
    expect(memoryOf({ byteLength: 8, byteOffset: 0, buffer: new ArrayBuffer(8) })).toBeUndefined();
    expect(memoryOf(new DataView(new ArrayBuffer(8), 2))).toMatchObject({ byteOffset: 2, byteLength: 6 });
  });

  test("an array is whole while its memory is attached, even if that has grown", () => {
    const buffer = new SharedArrayBuffer(8, { maxByteLength: 16 });
    const tracking = new Uint8Array(buffer);
    buffer.grow(16);
    expect([tracking.length, isWhole(tracking, 8)]).toEqual([16, true]);
    const gone = new Uint8Array(8);
    gone.buffer.transfer();
    expect([isWhole(gone, 8), isDetached(gone)]).toEqual([false, true]);
  });

  test("a view that is out of bounds is distinguished from an empty one, even by optimised code", () => {
    const empty = new Float32Array(0);
    for (let i = 0; i < 200_000; i++) isDetached(empty);
    const buffer = new ArrayBuffer(32, { maxByteLength: 64 });
    const fixed = new Float32Array(buffer, 16, 4);
    buffer.resize(8);
    expect([isDetached(empty), isDetached(fixed), byteLengthOf(fixed)]).toEqual([false, true, 0]);
  });
});
