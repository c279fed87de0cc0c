import { expect, test } from "bun:test";
import { endOf } from "./end-of-text.ts";

test("a text that is too long loses its beginning, and no part of a character", () => {
  expect(endOf("train.ts:8:3", 12)).toBe("train.ts:8:3");
  expect(endOf("deep/train.ts:8:3", 12)).toBe("…in.ts:8:3");
  for (const text of ["ä".repeat(50), "€uro/".repeat(20), "😀".repeat(20)]) {
    const short = endOf(text, 31);
    expect(new TextEncoder().encode(short).length).toBeWithin(27, 32);
    expect(text.endsWith(short.slice(1))).toBe(true);
  }
});
