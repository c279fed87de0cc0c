import { expect, test } from "bun:test";
import { describe, describeNumber } from "./describe.ts";

function body(): string {
  return "code of a user";
}

test.each<[unknown, string]>([
  [null, "null"],
  [undefined, "undefined"],
  [[1, 2], "an array of 2"],
  [new Float32Array(3), "Float32Array"],
  [Object.create(null), "an object"],
  ["2", '"2"'],
  ["x".repeat(1_000_000), `"${"x".repeat(80)}…"`],
  [2, "number 2"],
  [2n, "bigint 2"],
  [body, "function body"],
  [class Point {}, "function Point"],
  [(() => body)(), "function body"],
  [
    Object.assign(
      (
        () => () =>
          1
      )(),
      {},
    ),
    "a function",
  ],
])("%p is %s", (value, text) => {
  expect(describe(value)).toBe(text);
});

test("what should have been a number", () => {
  expect([1.5, "1", Number.NaN].map(describeNumber)).toEqual(["1.5", '"1"', "NaN"]);
});
