import type { IterationTimes } from "bun-c10d/ddp";

/** How this rank spends the steps of an epoch, in milliseconds. */
export class EpochTime {
  /** All of it; the parts below and {@link computeMs} add up to it. */
  totalMs = 0;
  /** Communication while gradients are still computed, as far as the backend measures it. */
  hiddenMs = 0;
  /** From a step's last gradient to the end of its exchanges: communication and slower ranks that are waited for. */
  waitedMs = 0;
  readonly #began = performance.now();

  /** Computing while nothing is exchanged. */
  get computeMs(): number {
    return this.totalMs - this.hiddenMs - this.waitedMs;
  }

  /** Adds the step that has just ended. */
  add({ hidden, waited }: IterationTimes): void {
    this.hiddenMs += Math.max(hidden, 0) / 1e6;
    this.waitedMs += waited / 1e6;
    this.totalMs = performance.now() - this.#began;
  }
}
