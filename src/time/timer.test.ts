import { afterEach, expect, mock, spyOn, test } from "bun:test";
import { sleepSync, startTimer } from "./index.ts";

const longest = 2 ** 31 - 1;
afterEach(() => mock.restore());

/** Timers of the runtime by their delays; each fires when the test says so. */
function fakeRuntime() {
  const started: { delayMs: number | undefined; fire: () => void; isRef: boolean }[] = [];
  spyOn(globalThis, "setTimeout").mockImplementation(((listener: () => void, delayMs?: number) => {
    const timer = { delayMs, fire: listener, isRef: true, unref: () => Object.assign(timer, { isRef: false }) };
    started.push(timer);
    return timer;
  }) as unknown as typeof setTimeout);
  const cleared = spyOn(globalThis, "clearTimeout").mockImplementation(() => {});
  return { started, cleared };
}

test("a delay of more than 2^31 - 1 ms does not end at once, as it does with setTimeout()", async () => {
  let early = 0;
  const timers = [2 ** 31, 2 ** 40, Number.POSITIVE_INFINITY].map((ms) => startTimer(ms, () => early++));
  await Bun.sleep(20);
  for (const timer of timers) timer[Symbol.dispose]();
  expect(early).toBe(0);
});

test("a long delay is the sum of the timers that it is made of, and ends once", () => {
  const { started } = fakeRuntime();
  let ended = 0;
  startTimer(2 * longest + 5, () => ended++);
  for (let i = 0; i < started.length; i++) started[i]?.fire();
  expect(started.map(({ delayMs }) => delayMs)).toEqual([longest, longest, 5]);
  expect(ended).toBe(1);
});

test("the longest delay of the runtime is one timer", () => {
  const { started } = fakeRuntime();
  startTimer(longest, () => {});
  expect(started.map(({ delayMs }) => delayMs)).toEqual([longest]);
});

test("unref() holds for the timers that follow, and disposing cancels the one that is pending", () => {
  const { started, cleared } = fakeRuntime();
  const timer = startTimer(3 * longest, () => {});
  timer.unref();
  started[0]?.fire();
  expect(started.map(({ isRef }) => isRef)).toEqual([false, false]);
  timer[Symbol.dispose]();
  expect(cleared.mock.calls).toEqual([[started[1] as never]]);
});

test("sleepSync() blocks", () => {
  const started = performance.now();
  sleepSync(20);
  expect(performance.now() - started).toBeGreaterThanOrEqual(19);
});
