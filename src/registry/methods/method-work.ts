import { opNames } from "../../collectives/op-table.ts";
import { OpType } from "../../collectives/op-type.ts";
import { type DistError, DistTimeoutError, UnsupportedOperationError } from "../../errors/index.ts";
import { failureOf, isWork, joinWhole, onEndOf, sourceOf, Work, type WorkInit } from "../../work/index.ts";
import { type Clock, scheduleOn } from "../services/clock.ts";
import type { MethodResult } from "./method-call.ts";

/** The backend whose method carries the op out. */
interface MethodHost {
  /** Called when the time-out of the op has expired. */
  onTimeout(work: MethodWork): void;
  /** Called when it has ended, successfully or not, before any listener. */
  onEnd(work: MethodWork): void;
  /** The error that the op ends with when its method fails; may end other ops. */
  errorOf(reason: unknown, work: MethodWork): DistError;
}

/** Work of an op that a method of a `MethodBackend` carries out. It exists before the method is called. */
export class MethodWork extends Work<void> {
  readonly #host: MethodHost;
  readonly #limitMs: number;
  /** By the clock of the machine, like all blocking. */
  readonly #started = performance.now();
  // Also without a limit, a timer keeps the process alive while the op is in flight.
  readonly #timer: Disposable;
  #abort: AbortController | undefined;
  /** The Work that the method returned. */
  #own: Work<unknown> | undefined;

  constructor(init: WorkInit, limitMs: number, clock: Clock, host: MethodHost) {
    super(init);
    this.#host = host;
    this.#limitMs = limitMs;
    this.#timer = scheduleOn(clock, limitMs, () => host.onTimeout(this));
  }

  /** Aborted when the op fails, or at once if it has. */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    const error = failureOf(this);
    if (error !== undefined) this.#abort.abort(error);
    return this.#abort.signal;
  }

  /** Ends as the method's result does. */
  follow(result: MethodResult): void {
    if (result === undefined) this.settle();
    else if (isWork(result)) this.#followWork(result);
    else {
      // The `then` of an author's thenable might throw, now or later.
      new Promise<unknown>((resolve) => resolve(result)).then(
        (value) => {
          if (this.#isRecv && typeof value === "number") this.cameFrom(value);
          this.settle();
        },
        (reason: unknown) => this.fail(reason),
      );
    }
  }

  /** Ends with what the method threw or rejected with; ignored after the end. */
  fail(reason: unknown): void {
    if (!this.isCompleted()) this.settle(this.#host.errorOf(reason, this));
  }

  override settle(error?: DistError): void {
    if (this.isCompleted()) return;
    this.#timer[Symbol.dispose]();
    this.#host.onEnd(this);
    super.settle(error);
    if (error !== undefined) this.#abort?.abort(error);
  }

  override synchronize(): void {
    if (this.#own !== undefined) this.synchronizeOn(this.#own);
  }

  override get hasStream(): boolean {
    return this.#own !== undefined && this.isOnStream(this.#own);
  }

  override get keepsLimit(): boolean {
    return this.#limitMs < Number.POSITIVE_INFINITY;
  }

  protected override block(limitMs: number): void {
    if (this.#own !== undefined) this.#blockOnOwn(this.#own, limitMs);
    else {
      throw new UnsupportedOperationError(
        `${this.describe()}: wait() cannot block on this Work, whose steps run on this thread; await it`,
        { code: "WAIT_WOULD_DEADLOCK", op: opNames[this.opType] },
      );
    }
  }

  /** Meanwhile no timer of this thread runs, so the time-out of the op is enforced here. */
  #blockOnOwn(own: Work<unknown>, limitMs: number): void {
    const now = performance.now();
    const leftMs = Math.max(0, this.#started + this.#limitMs - now);
    try {
      this.blockOn(own, now + Math.min(limitMs, leftMs), limitMs);
    } catch (error) {
      const isOver = error instanceof DistTimeoutError && error.code === "WAIT_TIMEOUT" && leftMs < limitMs;
      if (!isOver) throw error;
      this.#host.onTimeout(this);
      return;
    }
    // This wait may be called by a listener that runs before ours.
    this.#endAs(own);
  }

  get #isRecv(): boolean {
    return this.opType === OpType.RECV || this.opType === OpType.RECV_ANY_SOURCE;
  }

  #followWork(own: Work<unknown>): void {
    this.#own = own;
    joinWhole(own, this);
    onEndOf(own, () => this.#endAs(own));
  }

  #endAs(own: Work<unknown>): void {
    const error = failureOf(own);
    if (error !== undefined) {
      this.fail(error);
      return;
    }
    const source = sourceOf(own);
    if (source >= 0) this.cameFrom(source);
    this.settle();
  }
}
