import {
  failureOf,
  hasEnded,
  hasStarted,
  joinWhole,
  type LibraryTimes,
  libraryTimesOf,
  numberOf,
  onEndOf,
  Work,
  type WorkInit,
} from "./work.ts";

/** Succeeds when all of several Works have, or fails with the first error among them. Observing it observes all. */
export class AllOf<T = void> extends Work<T> {
  readonly #works: readonly Work<unknown>[];
  #pending: number;

  constructor(works: readonly Work<unknown>[], init: WorkInit) {
    // It goes by the number of its first part.
    super({ seq: works[0] === undefined ? -1 : numberOf(works[0]), ...init });
    // The list may belong to a backend, which may reuse it.
    this.#works = [...works];
    this.#pending = works.length;
    for (const work of works) {
      joinWhole(work, this);
      onEndOf(work, () => this.#onEnd(work));
    }
    if (works.length === 0) this.settle();
  }

  #onEnd(work: Work<unknown>): void {
    const error = failureOf(work);
    if (--this.#pending === 0 || error !== undefined) this.settle(error);
  }

  override synchronize(): void {
    for (const work of this.#works) this.synchronizeOn(work);
  }

  override get hasStream(): boolean {
    return this.#works.some((work) => this.isOnStream(work));
  }

  override get hasStarted(): boolean {
    return this.#works.some(hasStarted);
  }

  /** From the first start to the last end. */
  override get libraryTimes(): LibraryTimes | undefined {
    const times = this.#works.flatMap((work) => libraryTimesOf(work) ?? []);
    if (times.length === 0 || times.length < this.#works.length) return undefined;
    return {
      startedMs: Math.min(...times.map(({ startedMs }) => startedMs)),
      finishedMs: Math.max(...times.map(({ finishedMs }) => finishedMs)),
    };
  }

  protected override block(limitMs: number): void {
    const deadline = performance.now() + limitMs;
    for (const work of this.#works) {
      if (hasEnded(this)) return;
      this.blockOn(work, deadline, limitMs);
      // This wait may be called by a listener of this part that runs before ours.
      const error = failureOf(work);
      if (error !== undefined) this.settle(error);
    }
    this.settle();
  }
}
