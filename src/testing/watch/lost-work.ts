import { Work, type WorkInit } from "../../work/index.ts";

const MAX_DELAY_MS = 2 ** 31 - 1;

export interface LostWorkInit extends WorkInit {
  readonly timeoutMs: number;
  /** Called when the time is up; has to settle the Work. */
  onTimeout(work: LostWork): void;
  onAbort(reason: string): void;
}

/** Work of an op that never reaches its backend: nothing but its time-out, or an abort, ends it. */
export class LostWork extends Work<unknown> {
  readonly timeoutMs: number;
  readonly #init: LostWorkInit;
  readonly #due: number;
  readonly #timer: ReturnType<typeof setTimeout>;

  constructor(init: LostWorkInit) {
    super(init);
    this.#init = init;
    this.timeoutMs = init.timeoutMs;
    this.#due = performance.now() + init.timeoutMs;
    // Also without a limit, a timer keeps the process alive while the op is in flight.
    this.#timer = setTimeout(
      () => {
        if (init.timeoutMs <= MAX_DELAY_MS) init.onTimeout(this);
      },
      Math.min(init.timeoutMs, MAX_DELAY_MS),
    );
    this.whenEnded(() => clearTimeout(this.#timer));
  }

  override abort(): void {
    this.#init.onAbort(`${this.describe()} was aborted`);
  }

  protected override block(limitMs: number): void {
    for (;;) {
      const left = Math.min(limitMs, this.#due - performance.now());
      if (left <= 0) break;
      Bun.sleepSync(Math.min(left, MAX_DELAY_MS));
      if (left === limitMs) throw this.waitTimeout(limitMs);
    }
    this.#init.onTimeout(this);
  }

  protected override value(): unknown {
    return undefined;
  }
}
