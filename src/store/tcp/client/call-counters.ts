/** What a client has measured of one op. */
export interface ClientCounter {
  /** Calls that have ended, successfully or not. */
  readonly count: number;
  /** Mean time of a call in milliseconds, waiting included. */
  readonly mean: number;
  /** Variance of the times in ms², with n - 1 in the denominator; 0 for a single call. */
  readonly sampleVariance: number;
}

/** Running count, mean and variance of the times of calls, by Welford's method. */
export class CallCounters {
  readonly #byOp = new Map<string, Timing>();

  /** The times of the calls of `op`. */
  of(op: string): Timing {
    let timing = this.#byOp.get(op);
    if (timing === undefined) {
      timing = new Timing();
      this.#byOp.set(op, timing);
    }
    return timing;
  }

  /** Starts timing a call of `op`, which ends when the result is disposed. */
  time(op: string): Disposable {
    return new RunningCall(this.of(op));
  }

  collect(): Record<string, ClientCounter> {
    return Object.fromEntries(
      [...this.#byOp].filter(([, { count }]) => count > 0).map(([op, timing]) => [op, timing.read()]),
    );
  }
}

/** Times of the calls of one op. */
export class Timing {
  count = 0;
  #mean = 0;
  #squares = 0;

  /** Records a call that took `ms` milliseconds. */
  add(ms: number): void {
    this.count++;
    const delta = ms - this.#mean;
    this.#mean += delta / this.count;
    this.#squares += delta * (ms - this.#mean);
  }

  read(): ClientCounter {
    const { count } = this;
    return { count, mean: this.#mean, sampleVariance: count > 1 ? this.#squares / (count - 1) : 0 };
  }
}

class RunningCall implements Disposable {
  readonly #started = performance.now();
  readonly #timing: Timing;

  constructor(timing: Timing) {
    this.#timing = timing;
  }

  [Symbol.dispose](): void {
    this.#timing.add(performance.now() - this.#started);
  }
}
