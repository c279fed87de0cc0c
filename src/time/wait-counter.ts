/** What a {@link WaitCounter} has counted, in c10d's form. */
export interface WaitCounterValues {
  /** Waits that have not ended. */
  readonly active_count: number;
  readonly total_calls: number;
  readonly total_time_us: number;
  readonly max_time_us: number;
}

const counters = new Map<string, WaitCounter>();
let readers = 0;

/**
 * How often and how long this thread has waited at one place. Like the waits, the counters belong to the thread, not to
 * a container.
 *
 * c10d: `STATIC_SCOPED_WAIT_COUNTER`.
 */
export class WaitCounter {
  /** The counter of this name, which is made on first use. */
  static of(name: string): WaitCounter {
    const known = counters.get(name);
    if (known !== undefined) return known;
    const made = new WaitCounter();
    counters.set(name, made);
    return made;
  }

  /** All counters by name, as of now. c10d: `wait_counter_values`. */
  static values(): Record<string, WaitCounterValues> {
    return Object.fromEntries([...counters].map(([name, counter]) => [name, counter.#values()]));
  }

  /**
   * Whether anybody can ask for the values. Waits that are as short as a small op are counted only then: reading the
   * clock twice costs a tenth of one.
   */
  static get areRead(): boolean {
    return readers > 0;
  }

  /** For what shows the values: {@link areRead} is true until the returned object is disposed of. */
  static read(): Disposable {
    readers++;
    let isReading = true;
    return {
      [Symbol.dispose]: () => {
        if (isReading) readers--;
        isReading = false;
      },
    };
  }

  #active = 0;
  #calls = 0;
  #totalMs = 0;
  #maxMs = 0;

  private constructor() {}

  /** Counts the beginning of a wait; returns when that was, for {@link stop}. */
  start(): number {
    this.#active++;
    return performance.now();
  }

  stop(started: number): void {
    const tookMs = performance.now() - started;
    this.#active--;
    this.#calls++;
    this.#totalMs += tookMs;
    if (tookMs > this.#maxMs) this.#maxMs = tookMs;
  }

  #values(): WaitCounterValues {
    return {
      active_count: this.#active,
      total_calls: this.#calls,
      total_time_us: Math.round(this.#totalMs * 1_000),
      max_time_us: Math.round(this.#maxMs * 1_000),
    };
  }
}
