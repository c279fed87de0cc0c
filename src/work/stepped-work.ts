import { type DistError, UnsupportedOperationError } from "../errors/index.ts";
import { asError, failureOf, hasEnded, hasStarted, joinWhole, numberOf, onEndOf, Work, type WorkInit } from "./work.ts";

/** The steps of an op: yields the Work of each step, resumes when that has ended, and returns the result of the op. */
export type Steps<T> = Generator<Work<unknown>, T, void>;

/** An op that consists of several others, run one after the other. */
export class SteppedWork<T> extends Work<T> {
  readonly #steps: Steps<T>;
  readonly #ahead: (() => Work<unknown>) | undefined;
  #current: Work<unknown> | undefined;
  /** Number of the current step; the ends of earlier steps are ignored. */
  #cursor = 0;
  #value: T | undefined;
  #isRunning = false;

  /** @param ahead The Work that must end before the first step begins; throws if `wait()` cannot make that happen. */
  constructor(init: WorkInit, steps: Steps<T>, ahead?: () => Work<unknown>) {
    super(init);
    this.#steps = steps;
    this.#ahead = ahead;
  }

  /** Begins the first step, then each next one as soon as the one before has ended. */
  start(): void {
    this.#advance();
  }

  #advance(): void {
    // A loop, so that steps that end at once do not recurse.
    for (;;) {
      const step = this.#next();
      if (step === undefined) return;
      this.#current = step;
      joinWhole(step, this);
      if (hasEnded(step)) continue;
      const at = this.#cursor;
      onEndOf(step, () => this.#leave(at));
      return;
    }
  }

  /** Resumes after a step that has ended, unless it has already resumed. */
  #leave(step: number): void {
    if (this.#cursor === step) this.#advance();
  }

  /** Resumes after the current step and returns the next one; undefined after the last. */
  #next(): Work<unknown> | undefined {
    const error = this.#current && failureOf(this.#current);
    this.#cursor++;
    this.#isRunning = true;
    let end: DistError | undefined;
    try {
      const { done, value } = error === undefined ? this.#steps.next() : this.#steps.throw(error);
      if (!done) {
        // The op goes by the number of its first step.
        if (this.seq < 0) this.takeNumber(numberOf(value));
        return value;
      }
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

  override get hasStarted(): boolean {
    return this.#cursor > 1 || (this.#current !== undefined && hasStarted(this.#current));
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
      // This wait may be called by a listener of this step that runs before ours.
      this.#leave(at);
    }
  }

  protected override value(): T {
    return this.#value as T;
  }
}
