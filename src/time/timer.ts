/** Longest delay of a timer of the runtime in milliseconds, about 24.8 days; it would fire a longer one at once. */
const longestDelayMs = 2 ** 31 - 1;

/** A pending timer. Disposing of it cancels it. */
export interface Timer extends Disposable {
  /** From now on the timer does not keep the process alive. */
  unref(): unknown;
}

/**
 * Calls `listener` once after a delay of any length; never for `Infinity`. A pending timer keeps the process alive. All
 * limits that a caller can set are kept by such timers, since `setTimeout` itself calls its listener at once after 2^31
 * ms and more.
 */
export function startTimer(delayMs: number, listener: () => void): Timer {
  return delayMs <= longestDelayMs ? setTimeout(listener, delayMs) : new LongTimer(delayMs, listener);
}

/** Blocks this thread; for at most 24.8 days, where a longer time would not block at all. */
export function sleepSync(ms: number): void {
  Bun.sleepSync(Math.min(ms, longestDelayMs));
}

/** Several timers of the runtime, one after the other. */
class LongTimer implements Timer {
  #leftMs: number;
  readonly #listener: () => void;
  #timer: ReturnType<typeof setTimeout>;
  #isRef = true;

  constructor(delayMs: number, listener: () => void) {
    this.#leftMs = delayMs;
    this.#listener = listener;
    this.#timer = this.#next();
  }

  unref(): void {
    this.#isRef = false;
    this.#timer.unref();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #next(): ReturnType<typeof setTimeout> {
    if (this.#leftMs <= longestDelayMs) return setTimeout(this.#listener, this.#leftMs);
    this.#leftMs -= longestDelayMs;
    return setTimeout(() => {
      this.#timer = this.#next();
      if (!this.#isRef) this.#timer.unref();
    }, longestDelayMs);
  }
}
