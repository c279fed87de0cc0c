import { sleepSync, startTimer, type Timer } from "../../time/index.ts";
import { Work, type WorkInit } from "../../work/index.ts";

/** Work of an op that never reaches its backend: only its time-out, or the end of its group, ends it. */
export class LostWork extends Work<void> {
  readonly #due: number;
  readonly #onTimeout: () => void;
  readonly #timer: Timer;

  /** @param onTimeout Called when the time of the op is up; has to settle the Work. */
  constructor(init: WorkInit, timeoutMs: number, onTimeout: () => void) {
    super(init);
    this.#due = performance.now() + timeoutMs;
    this.#onTimeout = onTimeout;
    // Even without a limit, a timer keeps the process alive while the op is in flight.
    this.#timer = startTimer(timeoutMs, onTimeout);
    this.whenEnded(() => this.#timer[Symbol.dispose]());
  }

  override get keepsLimit(): boolean {
    return true;
  }

  protected override block(limitMs: number): void {
    for (;;) {
      const left = Math.min(limitMs, this.#due - performance.now());
      if (left <= 0) break;
      sleepSync(left);
      if (left === limitMs) throw this.waitTimeout(limitMs);
    }
    this.#onTimeout();
  }
}
