import { UnsupportedOperationError } from "../errors/index.ts";
import {
  failureOf,
  hasStarted,
  joinWhole,
  type LibraryTimes,
  libraryTimesOf,
  numberOf,
  onEndOf,
  sourceOf,
  Work,
  type WorkInit,
} from "./work.ts";

/** Stands for an op that is submitted later. */
export class DeferredWork<T = void> extends Work<T> {
  readonly #ahead: () => Work<unknown>;
  #actual: Work<unknown> | undefined;

  /** @param ahead The Work that must end before the op can be submitted; throws if `wait()` cannot make that happen. */
  constructor(init: WorkInit, ahead: () => Work<unknown>) {
    super(init);
    this.#ahead = ahead;
  }

  /** Ends as `actual` does. */
  follow(actual: Work<unknown>): void {
    this.#actual = actual;
    this.takeNumber(numberOf(actual));
    joinWhole(actual, this);
    onEndOf(actual, () => this.#endAs(actual));
  }

  #endAs(actual: Work<unknown>): void {
    const source = sourceOf(actual);
    // The Work of a recv from a given rank need not report the source: the group knows it.
    if (source >= 0) this.cameFrom(source);
    this.settle(failureOf(actual));
  }

  override synchronize(): void {
    if (this.#actual === undefined) {
      throw new UnsupportedOperationError(`${this.describe()} has not been submitted yet: await it`, {
        code: "NOT_SUBMITTED",
      });
    }
    this.synchronizeOn(this.#actual);
  }

  override get hasStream(): boolean {
    return this.#actual !== undefined && this.isOnStream(this.#actual);
  }

  override get hasStarted(): boolean {
    return this.#actual !== undefined && hasStarted(this.#actual);
  }

  override startNow(): void {
    this.#actual?.startNow();
  }

  override get libraryTimes(): LibraryTimes | undefined {
    return this.#actual && libraryTimesOf(this.#actual);
  }

  protected override block(limitMs: number): void {
    const deadline = performance.now() + limitMs;
    while (this.#actual === undefined && !this.isCompleted()) this.blockOnAhead(this.#ahead(), deadline, limitMs);
    if (this.#actual === undefined) return;
    this.blockOn(this.#actual, deadline, limitMs);
    // This wait may be called by a listener that runs before ours.
    this.#endAs(this.#actual);
  }
}
