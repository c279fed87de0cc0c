import { describe, expect, test } from "bun:test";
import { STAGED_BYTES } from "../tensor/index.ts";
import { copyBytesOf, StagingArea } from "./staging-area.ts";

const byMemcpy = copyBytesOf("libc.so.6");
const byViews = copyBytesOf("/there/is/no/library");

describe("StagingArea", () => {
  test.each([
    ["memcpy", byMemcpy],
    ["views", byViews],
  ])("slots hold what is copied there, by %s", (_, copy) => {
    const area = new StagingArea(copy);
    const sizes = Array.from({ length: 300 }, (_, i) => (i % 3 === 0 ? STAGED_BYTES : 1 + (i % 256)));
    const slots = sizes.map((size) => area.take(size));
    const contents = sizes.map((size, i) => new Uint8Array(size).fill(i));
    for (const [i, slot] of slots.entries()) area.copy(slot, contents[i] ?? new Uint8Array(), sizes[i] ?? 0);
    for (const [i, slot] of slots.entries()) {
      const back = new Uint8Array(sizes[i] ?? 0);
      area.copy(back, slot, back.length);
      expect(back).toEqual(contents[i] ?? new Uint8Array());
    }
  });

  test("slots are reused, the last one first, each once", () => {
    const area = new StagingArea(byMemcpy);
    const first = area.take(4);
    const second = area.take(4);
    expect(second).not.toBe(first);
    area.give(first, 4);
    expect(area.take(200)).toBe(first);
    const large = area.take(STAGED_BYTES);
    area.give(large, STAGED_BYTES);
    expect(area.take(4)).not.toBe(large);
    expect(area.take(1_000)).toBe(large);
  });
});
