import type { DistError } from "../../errors/index.ts";
import type { Clock } from "../../registry/index.ts";
import { sleepSync } from "../../time/index.ts";
import { Work, type WorkInit } from "../../work/index.ts";

export interface SoloWorkInit extends WorkInit {
  readonly delayMs: number;
  readonly clock: Clock;
  /** Carries out the op when it is due; an error that it returns fails the op. */
  carryOut(): DistError | undefined;
  onEnd(work: SoloWork): void;
}

/** Work of an op of a rank without peers: it ends by itself, after a delay. */
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

  /** Carries out the op and ends it, or ends it with an earlier error. */
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
