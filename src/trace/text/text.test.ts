import { expect, test } from "bun:test";
import { errorText, rankRanges } from "./op-text.ts";
import { paragraph } from "./paragraph.ts";

test("texts", () => {
  expect(rankRanges([5, 0, 1, 9, 2, 8])).toBe("0-2, 5, 8, 9");
  expect(paragraph("aa bb cc dd", 5, "  ")).toBe("aa bb\n  cc\n  dd");
  expect(paragraph("x".repeat(12), 5)).toBe("xxxxx\nxxxxx\nxx");
});

test("an error of several lines in one", () => {
  expect(errorText("timed out.\r\nits process is stopped\n\n")).toBe("timed out; its process is stopped");
  const listed = "it waits for\n  rank 1; its process is stopped\n  rank 2, which is in:\nbroadcast";
  expect(errorText(listed)).toBe("it waits for rank 1; its process is stopped; rank 2, which is in: broadcast");
});
