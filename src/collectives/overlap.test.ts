import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { InvalidArgumentError } from "../errors/index.ts";
import { TENSOR_PROTOCOL, type TensorLike, type TensorView, viewTensor } from "../tensor/index.ts";
import { requireDisjoint, requireDisjointOps, whole } from "./overlap.ts";

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
  test.each([
    ["a few", 30, 5],
    ["many", 1_900, 30],
  ])("agrees with a comparison byte by byte, %s", (_, places, most) => {
    const size = places + 10;
    const part = fc.record({ start: fc.nat(places), length: fc.nat(6), at: fc.nat(1) });
    const buffers = [new Uint8Array(size), new Uint8Array(new SharedArrayBuffer(size))];
    fc.assert(
      fc.property(fc.array(part, { maxLength: most }), fc.array(part, { maxLength: most - 1 }), (written, read) => {
        const viewsOf = (parts: typeof written): TensorView[] =>
          parts.map(({ start, length, at }) => view(buffers[at]?.subarray(start, start + length) ?? new Uint8Array(0)));
        const writers = new Array<number>(2 * size).fill(0);
        const readers = new Array<number>(2 * size).fill(0);
        const note = (counts: number[], parts: typeof written): void => {
          for (const { start, length, at } of parts) {
            for (let i = start; i < start + length; i++) counts[size * at + i] = (counts[size * at + i] ?? 0) + 1;
          }
        };
        note(writers, written);
        note(readers, read);
        const isFree = writers.every((count, i) => count === 0 || (count === 1 && readers[i] === 0));
        expect(codeOf(viewsOf(written), viewsOf(read))).toBe(isFree ? "ok" : "OVERLAPPING_TENSORS");
      }),
      { numRuns: most < 10 ? 2_000 : 500 },
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

  test("long lists, in place and not", () => {
    const memory = new Float32Array(1_000);
    const parts = Array.from({ length: 100 }, (_, i) => view(memory.subarray(10 * i, 10 * i + 10)));
    const inPairs = (views: readonly TensorView[], argument: string) => ({
      argument,
      views,
      own: whole,
      inPairs: true,
    });
    const check = (written: TensorView[], read: TensorView[]) => () =>
      requireDisjoint("op", inPairs(written, "outputs"), inPairs(read, "inputs"));
    expect(check(parts, [...parts])).not.toThrow();
    expect(check(parts, parts.with(7, view(new Float32Array(10))))).not.toThrow();
    expect(check(parts, parts.toReversed())).toThrow("overlap by 40 bytes");
    expect(check(parts, parts.with(7, view(memory.subarray(69, 79))))).toThrow("overlap by 4 bytes");
    // Tensors that are only read may overlap.
    const input = view(new Float32Array(10));
    expect(check(parts, new Array<TensorView>(100).fill(input))).not.toThrow();
    expect(check(parts.with(99, input), new Array<TensorView>(100).fill(input))).toThrow("outputs[99] and inputs[0]");
  });

  test("the message names both and how many bytes they share", () => {
    const memory = new Float32Array(8);
    const outputs = { argument: "outputs", views: [view(memory), view(memory.subarray(6))] };
    expect(() => requireDisjoint("gather", outputs, undefined)).toThrow(
      "gather: outputs[0] and outputs[1] overlap by 8 bytes, and the op writes to outputs[0]",
    );
  });
});

describe("requireDisjointOps", () => {
  test("agrees with a comparison of all pairs of ops", () => {
    const memory = [new Uint8Array(40), new Uint8Array(new SharedArrayBuffer(40))];
    const part = fc.record({ start: fc.nat(30), length: fc.nat(6), at: fc.nat(1) });
    const op = fc.record({ written: fc.array(part, { maxLength: 2 }), read: fc.array(part, { maxLength: 2 }) });
    type Parts = readonly { readonly start: number; readonly length: number; readonly at: number }[];
    const viewsOf = (parts: Parts): TensorView[] =>
      parts.map(({ start, length, at }) => view(memory[at]?.subarray(start, start + length) ?? new Uint8Array(0)));
    const meet = (some: Parts, others: Parts): boolean =>
      some.some((a) =>
        others.some(
          (b) => a.at === b.at && Math.max(a.start, b.start) < Math.min(a.start + a.length, b.start + b.length),
        ),
      );
    fc.assert(
      fc.property(fc.array(op, { maxLength: 6 }), (ops) => {
        const expected = ops.some((a, i) =>
          ops.slice(i + 1).some((b) => meet(a.written, [...b.written, ...b.read]) || meet(a.read, b.written)),
        );
        const uses = ops.map(({ written, read }) => ({ op: "any", written: viewsOf(written), read: viewsOf(read) }));
        let refused = false;
        try {
          requireDisjointOps("coalescing", uses);
        } catch (error) {
          expect((error as InvalidArgumentError).code).toBe("OVERLAPPING_TENSORS");
          refused = true;
        }
        expect(refused).toBe(expected);
      }),
      { numRuns: 2_000 },
    );
  });

  test("names the two ops", () => {
    const memory = new Float32Array(8);
    const use = (op: string, from: number) => ({ op, written: [view(memory.subarray(from, from + 4))], read: [] });
    expect(() => requireDisjointOps("coalescing", [use("recv", 4), use("allReduce", 0), use("broadcast", 3)])).toThrow(
      "coalescing: op 1 (allReduce) and op 2 (broadcast) overlap by 4 bytes, and one of them writes there",
    );
  });
});
