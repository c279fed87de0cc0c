import { expect, test } from "bun:test";
import { durationText } from "./duration-text.ts";

test.each([
  [-3, "0 ms"],
  [0, "0 ms"],
  [0.35, "350 µs"],
  [0.9999, "1 ms"],
  [3, "3 ms"],
  [3.257, "3.26 ms"],
  [9.999, "10 ms"],
  [412.4, "412 ms"],
  [999.7, "1 s"],
  [1_234, "1.2 s"],
  [59_960, "1 min 0 s"],
  [119_700, "2 min 0 s"],
  [3_599_700, "1 h 0 min"],
  [7_500_000, "2 h 5 min"],
])("%d ms is %s", (ms, text) => {
  expect(durationText(ms)).toBe(text);
});
