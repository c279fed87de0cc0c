import { expect, test } from "bun:test";
import { median, quantile, showBytes, showMicros, table } from "./samples.ts";

test("quantiles are samples, in any order", () => {
  expect(median([9, 1, 5])).toBe(5);
  expect(median([10, 9, 100])).toBe(10);
  expect(quantile([4, 3, 2, 1], 0)).toBe(1);
  expect(quantile([4, 3, 2, 1], 1)).toBe(4);
  expect(median([])).toBeNaN();
});

test("figures have a suitable unit", () => {
  expect([4, 1024, 65_536, 2 ** 24].map(showBytes)).toEqual(["4 B", "1 KB", "64 KB", "16 MB"]);
  expect([0.25, 12.345, 999.4, 1234, -2500].map(showMicros)).toEqual([
    "0.250 µs",
    "12.3 µs",
    "999 µs",
    "1.23 ms",
    "-2.50 ms",
  ]);
});

test("columns line up", () => {
  expect(
    table([
      ["op", "µs"],
      ["allReduce", "1"],
    ]),
  ).toBe("op         µs\nallReduce   1");
});
