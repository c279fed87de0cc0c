import { describe, expect, test } from "bun:test";
import { ManualClock } from "../../testing/manual-clock.ts";
import { clockOf, createContainer } from "../container.ts";
import { CLOCK, type Clock, requireClock, scheduleOn, systemClock } from "./clock.ts";

const none = { [Symbol.dispose]() {} };

describe("a user's clock", () => {
  const wrong: readonly [string, unknown, string][] = [
    ["nothing", undefined, "a clock is an object with now() and schedule(), got undefined"],
    ["half a clock", { now: () => 0 }, "a clock is an object with now() and schedule(), got Object"],
    [
      "a time that is not a number",
      { now: () => new Date(), schedule: () => none },
      "now() must return a number of milliseconds, got Date",
    ],
    [
      "a time that is not finite",
      { now: () => Number.NaN, schedule: () => none },
      "now() must return a number of milliseconds, got number NaN",
    ],
    [
      "timers that cannot be cancelled",
      { now: () => 0, schedule() {} },
      "schedule() must return a Disposable, which cancels the timer, got undefined",
    ],
    [
      "the number of a timer",
      { now: () => 0, schedule: () => 7 },
      "schedule() must return a Disposable, which cancels the timer, got number 7",
    ],
    [
      "a schedule() that throws",
      {
        now: () => 0,
        schedule: () => {
          throw new Error("no timers");
        },
      },
      "schedule() has thrown no timers",
    ],
    [
      "a schedule() that does not wait",
      {
        now: () => 0,
        schedule: (_: number, listener: () => void) => {
          listener();
          return none;
        },
      },
      "schedule() called its listener at once, 60000 ms early",
    ],
  ];
  for (const [what, clock, message] of wrong) {
    test(`with ${what} is refused`, () => {
      expect(() => requireClock(clock)).toThrow(
        expect.objectContaining({ message: `CLOCK: ${message}`, code: "INVALID_ARGUMENT" }),
      );
    });
  }

  test("is checked once per group, and no timer is left", () => {
    const clock = new ManualClock();
    const container = createContainer();
    container.register(CLOCK, { useValue: clock });
    expect(clockOf(container)).toBe(clock);
    expect(clock.pending).toBe(0);
    expect(clockOf(createContainer())).toBe(systemClock);
  });

  test("may fail later, which is also an error", () => {
    const clock: Clock = { now: () => 0, schedule: () => undefined as never };
    expect(() => scheduleOn(clock, 1, () => {})).toThrow("CLOCK: schedule() must return a Disposable");
  });
});
