import { expect, test } from "bun:test";
import { durationText, rankRanges } from "./op-text.ts";
import { paragraph } from "./paragraph.ts";

test("texts", () => {
  expect([0, 999, 12_340, 61_000, 7_260_000].map(durationText)).toEqual([
    "0 ms",
    "999 ms",
    "12.3 s",
    "1 min 1 s",
    "2 h 1 min",
  ]);
  expect(rankRanges([5, 0, 1, 9, 2, 8])).toBe("0-2, 5, 8, 9");
  expect(paragraph("aa bb cc dd", 5, "  ")).toBe("aa bb\n  cc\n  dd");
  expect(paragraph("x".repeat(12), 5)).toBe("xxxxx\nxxxxx\nxx");
});
