import type { InjectionToken } from "tsyringe";

/**
 * The time by which groups, their middleware and backends in TypeScript keep their limits. Put another one in for tests with
 * `container.register(CLOCK, { useValue: new ManualClock() })`. It does not rule over stores and rendezvous, which wait for
 * other processes, nor over native limits and over how long `wait()` blocks.
 */
export interface Clock {
  /** Milliseconds since a certain moment; never goes back. */
  now(): number;
  /**
   * Calls `listener` once, when `delayMs` have passed (never, if that is `Infinity`), unless the timer is disposed of before.
   * A pending timer keeps the process alive.
   */
  schedule(delayMs: number, listener: () => void): Disposable;
}

/** Token of the {@link Clock} in a container. */
export const CLOCK: InjectionToken<Clock> = Symbol.for("bun-c10d.Clock");

/** Longest delay that a timer of the runtime can have, in milliseconds. */
const MAX_DELAY_MS = 2 ** 31 - 1;

/** The time of this machine. */
export const systemClock: Clock = {
  now: () => performance.now(),
  schedule: (delayMs, listener) => {
    return delayMs <= MAX_DELAY_MS ? setTimeout(listener, delayMs) : new LongTimer(delayMs, listener);
  },
};

/** A timer of more than 24 days, of several timers of the runtime. */
class LongTimer implements Disposable {
  #timer: ReturnType<typeof setTimeout>;

  constructor(delayMs: number, listener: () => void) {
    const wait = (leftMs: number): ReturnType<typeof setTimeout> => {
      if (leftMs <= MAX_DELAY_MS) return setTimeout(listener, leftMs);
      return setTimeout(() => {
        this.#timer = wait(leftMs - MAX_DELAY_MS);
      }, MAX_DELAY_MS);
    };
    this.#timer = wait(delayMs);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
