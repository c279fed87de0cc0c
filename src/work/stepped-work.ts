import { type DistError, UnsupportedOperationError } from "../errors/index.ts";
import { asError, failureOf, hasEnded, onEndOf, Work, type WorkInit } from "./work.ts";

/** What an op of several steps does: it yields the Work of each step, which it goes on after, and returns its result. */
export type Steps<T> = Generator<Work<unknown>, T, void>;

/** An op that is made of several, one after the other. */
export class SteppedWork<T> extends Work<T> {
  readonly #steps: Steps<T>;
  readonly #ahead: (() => Work<unknown>) | undefined;
  #current: Work<unknown> | undefined;
  /** Number of the step that is under way; who has waited for an earlier one comes too late. */
  #cursor = 0;
  #value: T | undefined;
  #isRunning = false;

  /** @param ahead What has to end first before the first step can be taken; throws where a `wait()` cannot bring that about. */
  constructor(init: WorkInit, steps: Steps<T>, ahead?: () => Work<unknown>) {
    super(init);
    this.#steps = steps;
    this.#ahead = ahead;
  }

  /** Takes the first step, and from then on each next one as soon as the one before has ended. */
  start(): void {
    this.#advance();
  }

  #advance(): void {
    // A step that ends at once is no reason to recurse.
    for (;;) {
      const step = this.#next();
      if (step === undefined) return;
      this.#current = step;
      if (hasEnded(step)) continue;
      const at = this.#cursor;
      onEndOf(step, () => this.#leave(at));
      return;
    }
  }

  /** Goes on after a step that has ended, unless that has been done. */
  #leave(step: number): void {
    if (this.#cursor === step) this.#advance();
  }

  /** Goes on after the current step, to the next one; undefined when that was the last. */
  #next(): Work<unknown> | undefined {
    const error = this.#current && failureOf(this.#current);
    this.#cursor++;
    this.#isRunning = true;
    let end: DistError | undefined;
    try {
      const { done, value } = error === undefined ? this.#steps.next() : this.#steps.throw(error);
      if (!done) return value;
      this.#value = value;
    } catch (reason) {
      end = asError(reason, this);
    } finally {
      this.#isRunning = false;
    }
    this.settle(end);
    return undefined;
  }

  /** The next step begins only when this thread knows that the one before has ended. */
  override synchronize(): void {
    if (this.hasStream) this.wait();
    else if (this.#current !== undefined) this.synchronizeOn(this.#current);
  }

  override get hasStream(): boolean {
    return this.#current !== undefined && this.isOnStream(this.#current);
  }

  protected override block(limitMs: number): void {
    const deadline = performance.now() + limitMs;
    while (!this.isCompleted()) {
      if (this.#current === undefined && this.#ahead !== undefined && !this.#isRunning) {
        this.blockOnAhead(this.#ahead(), deadline, limitMs);
        continue;
      }
      if (this.#isRunning || this.#current === undefined) {
        throw new UnsupportedOperationError(
          `${this.describe()}: wait() was called from within the op's own step; await it`,
          { code: "WAIT_WOULD_DEADLOCK" },
        );
      }
      const at = this.#cursor;
      this.blockOn(this.#current, deadline, limitMs);
      // A listener of this step that comes before ours may be who is waiting.
      this.#leave(at);
    }
  }

  protected override value(): T {
    return this.#value as T;
  }
}
