import type { DistError } from "../../errors/index.ts";
import { Work, type WorkInit } from "../../work/index.ts";

export interface SoloWorkInit extends WorkInit {
  readonly delayMs: number;
  /** Carries the op out when it is due; an error ends it so. */
  carryOut(): DistError | undefined;
  onEnd(work: SoloWork): void;
}

/** Work of an op of a rank that is alone: it ends after a delay, by itself. */
export class SoloWork extends Work<void> {
  readonly #init: SoloWorkInit;
  readonly #due: number;
  readonly #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(init: SoloWorkInit) {
    super(init);
    this.#init = init;
    this.#due = performance.now() + init.delayMs;
    if (init.delayMs > 0) this.#timer = setTimeout(() => this.end(), init.delayMs);
  }

  /** Ends the op: as it is meant to end, or with an error that came first. */
  end(error: DistError | undefined = this.isCompleted() ? undefined : this.#init.carryOut()): void {
    if (this.isCompleted()) return;
    clearTimeout(this.#timer);
    this.settle(error);
    this.#init.onEnd(this);
  }

  protected override block(limitMs: number): void {
    const remaining = Math.max(0, this.#due - performance.now());
    Bun.sleepSync(Math.min(remaining, limitMs));
    if (remaining > limitMs) throw this.waitTimeout(limitMs);
    this.end();
  }
}
