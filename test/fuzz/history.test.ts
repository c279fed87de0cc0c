import { describe, expect, test } from "bun:test";
import { checkAdds, checkAppends, checkCompareSets } from "./history.ts";

const never = Number.POSITIVE_INFINITY;

describe("histories that no order explains are detected", () => {
  test("adds", () => {
    const good = [
      { start: 0, end: 5, sum: 2 },
      { start: 1, end: 2, sum: 1 },
      { start: 3, end: never, sum: undefined },
      { start: 6, end: 7, sum: 4 },
    ];
    expect(checkAdds(good, 4)).toEqual([]);
    expect(checkAdds(good.slice(0, 2), 2)).toEqual([]);
    expect(checkAdds(good, 5)).not.toEqual([]);
    expect(checkAdds(good, 3)).not.toEqual([]);
    const late = [
      { start: 0, end: 1, sum: 2 },
      { start: 2, end: 3, sum: 1 },
    ];
    expect(checkAdds(late, 2)).not.toEqual([]);
    const twice = [
      { start: 0, end: 4, sum: 1 },
      { start: 0, end: 4, sum: 1 },
    ];
    expect(checkAdds(twice, 2)).not.toEqual([]);
  });

  test("appends", () => {
    const good = [
      { start: 0, end: 9, token: "a;", read: "b;a;" },
      { start: 1, end: 2, token: "b;", read: "b;" },
      { start: 1, end: never, token: "c;", read: undefined },
    ];
    expect(checkAppends(good, "b;a;")).toEqual([]);
    expect(checkAppends(good, "b;a;c;")).toEqual([]);
    for (const final of ["b;a;b;", "b;a;c", "a;b;", "b;", "b;a;d;"]) expect(checkAppends(good, final)).not.toEqual([]);
    const stale = [
      { start: 0, end: 1, token: "a;", read: "b;a;" },
      { start: 2, end: 3, token: "b;", read: "b;" },
    ];
    expect(checkAppends(stale, "b;a;")).not.toEqual([]);
  });

  test("compareSets", () => {
    const good = [
      { start: 0, end: 3, expected: "", desired: "a", answer: "a" },
      { start: 1, end: 5, expected: "", desired: "b", answer: "a" },
      { start: 6, end: never, expected: "a", desired: "c", answer: undefined },
      { start: 7, end: 9, expected: "c", desired: "d", answer: "d" },
    ];
    expect(checkCompareSets(good, "d")).toEqual([]);
    expect(checkCompareSets(good.slice(0, 3), "a")).toEqual([]);
    expect(checkCompareSets(good.slice(0, 3), "c")).toEqual([]);
    expect(checkCompareSets(good, "x")).not.toEqual([]);
    // Both replaced the same value.
    const fork = [...good, { start: 8, end: 9, expected: "a", desired: "e", answer: "e" }];
    expect(checkCompareSets(fork, "d")).not.toEqual([]);
    // A refusal that reports a value before it was set, and one that reports it long after it was replaced.
    const early = [...good, { start: -2, end: -1, expected: "z", desired: "f", answer: "a" }];
    expect(checkCompareSets(early, "d")).not.toEqual([]);
    const stale = [...good, { start: 10, end: 11, expected: "z", desired: "f", answer: "a" }];
    expect(checkCompareSets(stale, "d")).not.toEqual([]);
  });
});
