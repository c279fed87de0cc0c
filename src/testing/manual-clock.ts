import { InvalidArgumentError } from "../errors/index.ts";
import type { Clock } from "../registry/index.ts";

/**
 * A clock that a test sets: time passes only by {@link advance}. Limits of ops, delays of the `fake` backend and timers
 * of middleware are then due when the test says so.
 *
 * ```ts
 * const clock = new ManualClock();
 * await localRanks(2, async ({ rank }) => {
 *   if (rank === 1) return clock.advance(1_800_000);
 *   await dist.barrier({ timeout: "30min" }); // OP_TIMEOUT, at once
 * }, { clock });
 * ```
 *
 * Its pending timers do not keep the process alive.
 */
export class ManualClock implements Clock {
  readonly #timers = new Set<{ readonly due: number; readonly listener: () => void }>();
  #now = 0;

  now(): number {
    return this.#now;
  }

  schedule(delayMs: number, listener: () => void): Disposable {
    const timer = { due: this.#now + Math.max(0, delayMs), listener };
    this.#timers.add(timer);
    return { [Symbol.dispose]: () => void this.#timers.delete(timer) };
  }

  /** Number of timers that are pending. */
  get pending(): number {
    return this.#timers.size;
  }

  /**
   * Lets time pass, and calls the listeners that become due, in order of time, each at its own time. They may schedule
   * others.
   * @throws InvalidArgumentError for a time that is not a number, not finite, or less than 0.
   */
  advance(ms: number): void {
    if (typeof ms !== "number" || !(ms >= 0) || ms === Number.POSITIVE_INFINITY) {
      throw new InvalidArgumentError(`advance: ms must be a number of milliseconds, 0 or more, got ${ms}`, {
        argument: "ms",
      });
    }
    const end = this.#now + ms;
    for (;;) {
      let next: { readonly due: number; readonly listener: () => void } | undefined;
      for (const timer of this.#timers)
        if (timer.due <= end && (next === undefined || timer.due < next.due)) next = timer;
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#now = Math.max(this.#now, next.due);
      next.listener();
    }
    // A listener may have let more time pass.
    this.#now = Math.max(this.#now, end);
  }
}
