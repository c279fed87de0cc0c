import type { DistError } from "../../errors/index.ts";
import type { Clock } from "../../registry/index.ts";
import { sleepSync } from "../../time/index.ts";
import { Work, type WorkInit } from "../../work/index.ts";

export interface SoloWorkInit extends WorkInit {
  readonly delayMs: number;
  readonly clock: Clock;
  /** Carries the op out when it is due; an error ends it so. */
  carryOut(): DistError | undefined;
  onEnd(work: SoloWork): void;
}

/** Work of an op of a rank that is alone: it ends after a delay, by itself. */
export class SoloWork extends Work<void> {
  readonly #init: SoloWorkInit;
  readonly #due: number;
  readonly #timer: Disposable | undefined;

  constructor(init: SoloWorkInit) {
    super(init);
    this.#init = init;
    this.#due = init.clock.now() + init.delayMs;
    if (init.delayMs > 0) this.#timer = init.clock.schedule(init.delayMs, () => this.end());
  }

  /** Ends the op: as it is meant to end, or with an error that came first. */
  end(error: DistError | undefined = this.isCompleted() ? undefined : this.#init.carryOut()): void {
    if (this.isCompleted()) return;
    this.#timer?.[Symbol.dispose]();
    this.settle(error);
    this.#init.onEnd(this);
  }

  override get keepsLimit(): boolean {
    return true;
  }

  protected override block(limitMs: number): void {
    const remaining = Math.max(0, this.#due - this.#init.clock.now());
    sleepSync(Math.min(remaining, limitMs));
    if (remaining > limitMs) throw this.waitTimeout(limitMs);
    this.end();
  }
}
