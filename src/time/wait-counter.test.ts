import { expect, test } from "bun:test";
import { sleepSync } from "./timer.ts";
import { WaitCounter } from "./wait-counter.ts";

test("a wait counter counts the waits that have ended, their total and longest time, and those that go on", () => {
  const name = "test.wait_counter.three";
  const counter = WaitCounter.of(name);
  expect(WaitCounter.of(name)).toBe(counter);
  const values = () => WaitCounter.values()[name];
  expect(values()).toEqual({ active_count: 0, total_calls: 0, total_time_us: 0, max_time_us: 0 });
  for (const ms of [5, 20]) {
    const started = counter.start();
    sleepSync(ms);
    counter.stop(started);
  }
  const pending = counter.start();
  const { total_time_us = 0, max_time_us = 0, ...counts } = values() ?? {};
  expect(counts).toEqual({ active_count: 1, total_calls: 2 });
  expect(max_time_us).toBeGreaterThanOrEqual(19_000);
  expect(total_time_us).toBeGreaterThanOrEqual(max_time_us + 4_000);
  counter.stop(pending);
  expect(values()).toMatchObject({ active_count: 0, total_calls: 3 });
});

test("short waits are counted from the first reader to the last", () => {
  expect(WaitCounter.areRead).toBe(false);
  const first = WaitCounter.read();
  {
    using _second = WaitCounter.read();
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    expect(WaitCounter.areRead).toBe(true);
  }
  expect(WaitCounter.areRead).toBe(false);
});
