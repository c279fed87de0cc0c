import { UnsupportedOperationError } from "../errors/index.ts";
import { failureOf, joinWhole, numberOf, onEndOf, sourceOf, Work, type WorkInit } from "./work.ts";

/** Stands for an op that is submitted later. */
export class DeferredWork<T = void> extends Work<T> {
  readonly #ahead: () => Work<unknown>;
  #actual: Work<unknown> | undefined;

  /** @param ahead What has to end first before the op can be submitted; throws where a `wait()` cannot bring that about. */
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
    // A recv from one certain rank may leave it to the group to know which.
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

  protected override block(limitMs: number): void {
    const deadline = performance.now() + limitMs;
    while (this.#actual === undefined && !this.isCompleted()) this.blockOnAhead(this.#ahead(), deadline, limitMs);
    if (this.#actual === undefined) return;
    this.blockOn(this.#actual, deadline, limitMs);
    // A listener that comes before ours may be who is waiting.
    this.#endAs(this.#actual);
  }
}
