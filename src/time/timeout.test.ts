import { describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../errors/dist-error.ts";
import { defaultTimeoutMs, type Timeout, timeoutMs } from "./timeout.ts";

describe("timeoutMs", () => {
  test.each<[Timeout, number]>([
    [1, 1],
    [0.5, 0.5],
    [5_000, 5_000],
    [Number.MIN_VALUE, Number.MIN_VALUE],
    [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY],
    ["500ms", 500],
    ["30s", 30_000],
    ["5m", 300_000],
    ["5min", 300_000],
    ["1h", 3_600_000],
    ["1.5s", 1_500],
    [" 2 s ", 2_000],
  ])("%p is %d ms", (timeout, expected) => {
    expect(timeoutMs(timeout, 7)).toBe(expected);
  });

  test("undefined is the default", () => {
    expect(timeoutMs(undefined, 7)).toBe(7);
  });

  test.each<[unknown]>([
    [0],
    [-0],
    [-1],
    [Number.NaN],
    [Number.NEGATIVE_INFINITY],
    [""],
    ["0s"],
    ["0"],
    ["30"],
    ["-5s"],
    ["+5s"],
    ["s"],
    ["5 days"],
    ["5S"],
    ["1e3ms"],
    [".5s"],
    ["1,5s"],
    ["soon"],
    ["Infinity"],
    [null],
    [true],
    [false],
    [5n],
    [[]],
    [[5]],
    [{}],
    [new Date(5)],
    [Symbol("5")],
    [() => 5],
  ])("%p is refused", (timeout) => {
    const act = () => timeoutMs(timeout as Timeout, 7);
    expect(act).toThrow(InvalidArgumentError);
    expect(act).toThrow("timeout must be a positive number of milliseconds");
  });

  test("c10d's defaults", () => {
    expect(defaultTimeoutMs).toEqual({
      store: 300_000,
      processGroup: 1_800_000,
      nccl: 600_000,
      controlCollectives: 300_000,
    });
  });
});
