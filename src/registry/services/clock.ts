import type { InjectionToken } from "tsyringe";
import { describe, InvalidArgumentError, messageOf } from "../../errors/index.ts";
import { startTimer } from "../../time/index.ts";

/**
 * The clock for time-outs of groups, their middleware and backends in TypeScript. Tests can replace it with
 * `container.register(CLOCK, { useValue: new ManualClock() })`. It does not affect stores and rendezvous, which wait
 * for other processes, native time-outs, or how long `wait()` blocks.
 */
export interface Clock {
  /** Milliseconds since an arbitrary moment; never decreases. */
  now(): number;
  /**
   * Calls `listener` once, when `delayMs` have passed (never, if that is `Infinity`), unless the timer is disposed of
   * before. A pending timer keeps the process alive.
   */
  schedule(delayMs: number, listener: () => void): Disposable;
}

/** Token of the {@link Clock} in a container. */
export const CLOCK: InjectionToken<Clock> = Symbol.for("bun-c10d.Clock");

/** The monotonic clock of this machine. */
export const systemClock: Clock = {
  now: () => performance.now(),
  schedule: startTimer,
};

/**
 * Schedules a timer on a clock, which a user may have implemented.
 * @throws InvalidArgumentError when `schedule()` does not return what cancels the timer.
 */
export function scheduleOn(clock: Clock, delayMs: number, listener: () => void): Disposable {
  const timer: unknown = clock.schedule(delayMs, listener);
  if (isDisposable(timer)) return timer;
  throw wrongClock(`schedule() must return a Disposable, which cancels the timer, got ${describe(timer)}`);
}

/** Delay of the timer by which a clock is checked; it is cancelled at once. */
const TRIAL_MS = 60_000;

/**
 * Checks a clock as far as possible: whether its timers ever fire cannot be checked.
 * @throws InvalidArgumentError for anything else.
 */
export function requireClock(given: unknown): Clock {
  const clock = (given ?? {}) as Clock;
  if (typeof clock.now !== "function" || typeof clock.schedule !== "function") {
    throw wrongClock(`a clock is an object with now() and schedule(), got ${describe(given)}`);
  }
  if (clock === systemClock) return clock;
  const now: unknown = tried("now()", () => clock.now());
  if (typeof now !== "number" || !Number.isFinite(now)) {
    throw wrongClock(`now() must return a number of milliseconds, got ${describe(now)}`);
  }
  let isEarly = false;
  const timer = tried("schedule()", () => {
    return scheduleOn(clock, TRIAL_MS, () => {
      isEarly = true;
    });
  });
  tried("the timer of schedule()", () => timer[Symbol.dispose]());
  if (isEarly) throw wrongClock(`schedule() called its listener at once, ${TRIAL_MS} ms early`);
  return clock;
}

function tried<T>(what: string, call: () => T): T {
  try {
    return call();
  } catch (cause) {
    if (cause instanceof InvalidArgumentError) throw cause;
    throw wrongClock(`${what} has thrown ${messageOf(cause)}`, cause);
  }
}

function wrongClock(fault: string, cause?: unknown): InvalidArgumentError {
  return new InvalidArgumentError(`CLOCK: ${fault}`, { argument: "CLOCK", ...(cause !== undefined && { cause }) });
}

function isDisposable(value: unknown): value is Disposable {
  return typeof value === "object" && value !== null && typeof Reflect.get(value, Symbol.dispose) === "function";
}
