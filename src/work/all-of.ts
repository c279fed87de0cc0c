import type { DistError } from "../errors/index.ts";
import { joinWhole, outcomeOf, Work, type WorkInit } from "./work.ts";

/** Ends when all of several Works have ended well, or with the first error among them. It answers for all of them. */
export class AllOf<T> extends Work<T> {
  readonly #works: readonly Work<unknown>[];
  readonly #value: T;

  constructor(works: readonly Work<unknown>[], value: T, init: WorkInit) {
    super(init);
    this.#works = works;
    this.#value = value;
    for (const work of works) joinWhole(work, this);
    Promise.all(works.map(outcomeOf)).then(
      () => this.settle(),
      (error: unknown) => this.settle(error as DistError),
    );
  }

  protected override block(limitMs: number): void {
    const deadline = performance.now() + limitMs;
    for (const work of this.#works) {
      const left = deadline - performance.now();
      if (left <= 0 && !work.isCompleted()) throw this.waitTimeout(limitMs);
      try {
        work.wait(left > 0 ? { timeout: left } : {});
      } catch (error) {
        if (!work.isCompleted()) throw this.waitTimeout(limitMs);
        this.settle(error as DistError);
        return;
      }
    }
    this.settle();
  }

  protected override value(): T {
    return this.#value;
  }
}
