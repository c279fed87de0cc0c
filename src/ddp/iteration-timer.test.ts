import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { IterationTimer } from "./iteration-timer.ts";

describe("IterationTimer", () => {
  let now = 0;
  let clock = spyOn(performance, "now");
  beforeEach(() => {
    clock = spyOn(performance, "now").mockImplementation(() => now);
  });
  afterEach(() => clock.mockRestore());

  const at = (moment: number, mark: () => void) => {
    now = moment;
    mark();
  };

  /** An iteration whose exchanges the library did at these times. */
  function iteration(timer: IterationTimer, ...exchanged: readonly (readonly [from: number, to: number])[]): void {
    at(10, () => timer.forwardStarts());
    at(30, () => timer.backwardStarts());
    at(41, () => timer.communicationStarts());
    at(55, () => timer.communicationStarts());
    at(70, () => timer.computeEnds());
    at(93, () => timer.communicationEnds(exchanged.map(([startedMs, finishedMs]) => ({ startedMs, finishedMs }))));
  }

  test("times between the moments of an iteration, in nanoseconds", () => {
    const timer = new IterationTimer();
    iteration(timer);
    now = 42.5;
    expect(timer.sinceBackwardStart()).toBe(12_500_000);
    const unix = (moment: number) => Math.round((performance.timeOrigin + moment) * 1e6);
    expect(timer.times).toEqual({
      forwardCompute: 20_000_000,
      backwardCompute: 40_000_000,
      backwardComm: 52_000_000,
      overlap: 29_000_000,
      hidden: -1,
      waited: 23_000_000,
      forwardStart: unix(10),
      backwardStart: unix(30),
      computeEnd: unix(70),
      commStart: unix(41),
      commEnd: unix(93),
    });
  });

  test.each<[string, readonly (readonly [number, number])[], number]>([
    ["one that ends before the last gradient", [[42, 60]], 18],
    ["one that ends after it", [[42, 90]], 28],
    ["one that begins after it", [[71, 90]], 0],
    [
      "one after the other",
      [
        [42, 50],
        [52, 60],
      ],
      16,
    ],
    [
      "some at a time, in any order",
      [
        [65, 90],
        [45, 60],
        [42, 50],
        [47, 48],
      ],
      23,
    ],
    [
      "one within another",
      [
        [42, 69],
        [45, 50],
        [60, 68],
      ],
      27,
    ],
  ])("what is hidden counts once: %s", (_, exchanged, hidden) => {
    const timer = new IterationTimer();
    iteration(timer, ...exchanged);
    expect(timer.times.hidden).toBe(hidden * 1e6);
  });

  test("what has not been measured is -1, also in a second iteration", () => {
    const timer = new IterationTimer();
    for (const _ of [1, 2]) {
      at(10, () => timer.forwardStarts());
      at(30, () => timer.backwardStarts());
      const { forwardCompute, forwardStart, backwardStart, ...others } = timer.times;
      expect(forwardCompute).toBe(20_000_000);
      expect([forwardStart > 0, backwardStart > 0]).toEqual([true, true]);
      expect(new Set(Object.values(others))).toEqual(new Set([-1]));
      iteration(timer, [42, 60]);
    }
  });

  test("an exchange that begins after the last gradient overlaps with nothing", () => {
    const timer = new IterationTimer();
    at(10, () => timer.forwardStarts());
    at(30, () => timer.backwardStarts());
    at(50, () => timer.computeEnds());
    at(52, () => timer.communicationStarts());
    at(60, () => timer.communicationEnds([]));
    expect(timer.times).toMatchObject({ overlap: -1, backwardComm: 8_000_000, waited: 10_000_000 });
  });
});
