import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { InvalidArgumentError } from "../errors/index.ts";
import { TENSOR_PROTOCOL, type TensorLike, type TensorView, viewTensor } from "../tensor/index.ts";
import { requireDisjoint } from "./overlap.ts";

const view = (of: TensorLike): TensorView => viewTensor(of);
const foreign = (ptr: number, byteLength: number): TensorView =>
  view({ [TENSOR_PROTOCOL]: () => ({ ptr, byteLength, dtype: "uint8" }) });

function codeOf(written: readonly TensorView[], read?: readonly TensorView[]): string {
  try {
    const outputs = { argument: "outputs", views: written };
    requireDisjoint("op", outputs, read && { argument: "inputs", views: read });
    return "ok";
  } catch (error) {
    return (error as InvalidArgumentError).code;
  }
}

describe("requireDisjoint", () => {
  test("agrees with a comparison byte by byte", () => {
    const part = fc.record({ start: fc.nat(30), length: fc.nat(6), at: fc.nat(1) });
    const buffers = [new Uint8Array(40), new Uint8Array(new SharedArrayBuffer(40))];
    fc.assert(
      fc.property(fc.array(part, { maxLength: 5 }), fc.array(part, { maxLength: 4 }), (written, read) => {
        const viewsOf = (parts: typeof written): TensorView[] =>
          parts.map(({ start, length, at }) => view(buffers[at]?.subarray(start, start + length) ?? new Uint8Array(0)));
        const writers = new Array<number>(80).fill(0);
        const readers = new Array<number>(80).fill(0);
        const note = (counts: number[], parts: typeof written): void => {
          for (const { start, length, at } of parts) {
            for (let i = start; i < start + length; i++) counts[40 * at + i] = (counts[40 * at + i] ?? 0) + 1;
          }
        };
        note(writers, written);
        note(readers, read);
        const isFree = writers.every((count, i) => count === 0 || (count === 1 && readers[i] === 0));
        expect(codeOf(viewsOf(written), viewsOf(read))).toBe(isFree ? "ok" : "OVERLAPPING_TENSORS");
      }),
      { numRuns: 2_000 },
    );
  });

  test("foreign and shared memory are compared by address", () => {
    expect(codeOf([foreign(0x1000, 16)], [foreign(0x1008, 16)])).toBe("OVERLAPPING_TENSORS");
    expect(codeOf([foreign(0x1000, 8)], [foreign(0x1008, 16)])).toBe("ok");
    const shared = new SharedArrayBuffer(8);
    const twin = structuredClone(shared);
    expect(codeOf([view(new Uint8Array(shared))], [view(new Uint8Array(twin))])).toBe("OVERLAPPING_TENSORS");
    expect(codeOf([view(new Uint8Array(shared))], [view(new Uint8Array(8)), foreign(0x1000, 4)])).toBe("ok");
  });

  test("the message names both and how much they share", () => {
    const memory = new Float32Array(8);
    const outputs = { argument: "outputs", views: [view(memory), view(memory.subarray(6))] };
    expect(() => requireDisjoint("gather", outputs, undefined)).toThrow(
      "gather: outputs[0] and outputs[1] overlap by 8 bytes, and the op writes to outputs[0]",
    );
  });
});
