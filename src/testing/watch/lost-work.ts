import { Work, type WorkInit } from "../../work/index.ts";

const MAX_DELAY_MS = 2 ** 31 - 1;

/** Work of an op that never reaches its backend: nothing but its time-out, or the end of its group, ends it. */
export class LostWork extends Work<void> {
  readonly #due: number;
  readonly #onTimeout: () => void;
  readonly #timer: ReturnType<typeof setTimeout>;

  /** @param onTimeout Called when the time of the op is up; has to settle the Work. */
  constructor(init: WorkInit, timeoutMs: number, onTimeout: () => void) {
    super(init);
    this.#due = performance.now() + timeoutMs;
    this.#onTimeout = onTimeout;
    // Also without a limit, a timer keeps the process alive while the op is in flight.
    this.#timer = setTimeout(
      () => {
        if (timeoutMs <= MAX_DELAY_MS) onTimeout();
      },
      Math.min(timeoutMs, MAX_DELAY_MS),
    );
    this.whenEnded(() => clearTimeout(this.#timer));
  }

  override get keepsLimit(): boolean {
    return true;
  }

  protected override block(limitMs: number): void {
    for (;;) {
      const left = Math.min(limitMs, this.#due - performance.now());
      if (left <= 0) break;
      Bun.sleepSync(Math.min(left, MAX_DELAY_MS));
      if (left === limitMs) throw this.waitTimeout(limitMs);
    }
    this.#onTimeout();
  }
}
