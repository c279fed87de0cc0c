import { opNames } from "../collectives/op-table.ts";
import { OpType } from "../collectives/op-type.ts";
import {
  brand,
  callUserCode,
  DistBackendError,
  DistError,
  DistTimeoutError,
  describe,
  InvalidArgumentError,
  messageOf,
  UnsupportedOperationError,
  warn,
} from "../errors/index.ts";
import { type Timeout, timeoutMs } from "../time/index.ts";
import type { WorkInfo } from "./work-info.ts";

/** The error of a failed Work, else undefined. Does not count as a look at it. */
export let failureOf: (work: object) => DistError | undefined;

/** Makes a Work a part of another one, which answers for it: who has looked at the whole has seen the part's failure. */
export let joinWhole: (part: object, whole: FailedWork) => void;

/**
 * Makes a Work one of a group's, which from then on is notified of its end and answers for its failure. Once for each Work.
 *
 * @param result What the op resolves to, `undefined` included; {@link OWN_RESULT} for what the Work itself has.
 * @param source Rank in the group that a message comes from, if it is known beforehand.
 * @param entry Number of its entry in the flight recorder.
 */
export let bindWork: (work: Work<unknown>, owner: WorkOwner, result: unknown, source?: number, entry?: number) => void;

/** Whether a Work belongs to a group, or is a part of another one. */
export let isTaken: (work: object) => boolean;

/** Whether this is a Work of this copy of the package; {@link workOf} also takes those of another copy. */
export let isWork: (value: unknown) => value is Work<unknown>;

/** Whether an op has ended, whatever the class of its Work says. */
export let hasEnded: (work: Work<unknown>) => boolean;

/** Calls `listener` when an op has ended, as {@link Work.whenEnded} does, whatever the class of its Work makes of that. */
export let onEndOf: (work: Work<unknown>, listener: () => void) => void;

/** Whether somebody has looked at the outcome, whatever the class of the Work says; see {@link Work.observed}. */
export let isObserved: (work: FailedWork) => boolean;

/** The error of a failed Work, else undefined. Counts as a look at the outcome. */
export let lookAt: (work: FailedWork) => DistError | undefined;

/** Ends an op, unless it has ended. The class of its Work may have a `settle` of its own, which may fail to. */
export let endWork: (work: Work<unknown>, error: DistError) => void;

/** Ends a Work with what its caller has thrown, which is passed on as it is. */
export let discardWork: (work: Work<unknown>, error: DistError) => void;

/** Gives a Work that has failed before it was {@link bindWork bound} an error that says more. */
export let replaceError: (work: Work<unknown>, error: DistError) => void;

/** Rank in the group that a message has come from; -1 where that is not known. */
export let sourceOf: (work: object) => number;

/** When an op was submitted, by `performance.now()`. */
export let startedOf: (work: Work<unknown>) => number;

/** When an op has ended, by `performance.now()`; 0 before. */
export let finishedOf: (work: Work<unknown>) => number;

/** Puts a Work under watch: from now on nobody blocks on it for longer than the guard says. Once for each Work. */
export let guardWork: (work: Work<unknown>, guard: WorkGuard) => void;

/** Errors that somebody has looked at, on whichever of the Works that carry them. */
const seenErrors = new WeakSet<DistError>();

/** A failed op whose error may not have been looked at yet. */
export type FailedWork = Pick<Work<unknown>, "observed" | "exception">;

/** The group that a Work belongs to. */
export interface WorkOwner {
  /** One of its ops has been bound and is in flight. */
  onStart(): void;
  /**
   * One of its ops has ended, either way; `wasInFlight` tells whether {@link onStart} was called for it. `entry` is what the Work
   * was bound with, -1 without one.
   */
  onEnd(work: Work<unknown>, wasInFlight: boolean, entry: number): void;
  /** Global rank of a rank of the group. */
  globalRankOf(groupRank: number): number;
  /** Whether the group has failed, and somebody has looked at an error that says so. */
  readonly failureSeen?: boolean;
  /** Fails all that is in flight. */
  abort?(reason: string): void;
  /** An error about one of its ops; without it, one that names the op alone. */
  errorOf?(text: string, init: WorkErrorInit, work: Work<unknown>): DistError;
}

/** What an error about an op has beside its text. */
export interface WorkErrorInit {
  /** `BACKEND_ERROR` by default. */
  readonly code?: string;
  readonly cause?: unknown;
}

/** Keeps the limit of an op whose backend, or middleware, may not do so. */
export interface WorkGuard {
  /** How long a `wait()` may block that begins now, in milliseconds. */
  readonly leftMs: number;
  /** A `wait()` has blocked for so long: the op has to end now. */
  expire(): void;
  /** An error about the op, which says whose it is. */
  errorOf(text: string, init: WorkErrorInit): DistError;
}

/** What a Work is made with. */
export interface WorkInit {
  readonly opType: OpType;
  /** Sequence number in the group; -1 by default. */
  readonly seq?: number;
}

/** Says to {@link bindWork} that an op resolves to what its Work has. */
export const OWN_RESULT = Symbol("own result");

enum Phase {
  Pending,
  Succeeded,
  Failed,
}

/**
 * Handle of an op under way. `await` it for its result, or block this thread with `wait()`.
 *
 * An error that nobody awaits, waits for or reads with `exception()` is a process warning, and `destroyProcessGroup()`
 * rethrows it; it is never an unhandled rejection.
 *
 * c10d: `Work`.
 */
export abstract class Work<T> implements PromiseLike<T>, AsyncDisposable {
  static {
    brand(Work, "Work");
    failureOf = (work) => (#error in work ? work.#error : undefined);
    joinWhole = (part, whole) => {
      if (#error in part) part.#whole = whole;
    };
    isTaken = (work) => #error in work && (work.#owner !== undefined || work.#whole !== undefined);
    isWork = (value): value is Work<unknown> => typeof value === "object" && value !== null && #error in value;
    hasEnded = (work) => work.#phase !== Phase.Pending;
    onEndOf = (work, listener) => work.#whenEnded(listener);
    isObserved = (work) => (#error in work ? work.#isObserved : work.observed);
    lookAt = (work) => {
      if (!(#error in work)) return work.exception();
      work.#look();
      return work.#error;
    };
    endWork = (work, error) => {
      try {
        work.settle(error);
      } catch (reason) {
        warn(`${work.describe()}: settle() of its Work has failed: ${messageOf(reason)}`);
      }
      if (work.#phase === Phase.Pending) work.#settle(error);
    };
    discardWork = (work, error) => {
      if (work.#phase === Phase.Pending) work.#end(error);
    };
    replaceError = (work, error) => {
      work.#error = error;
    };
    sourceOf = (work) => (#error in work ? work.#source : -1);
    startedOf = (work) => work.#started;
    finishedOf = (work) => work.#finished;
    guardWork = (work, guard) => {
      work.#guard = guard;
    };
    bindWork = (work, owner, result, source = -1, entry = -1) => {
      if (work.#owner !== undefined) throw new TypeError(`${work.describe()} belongs to a group already`);
      work.#owner = owner;
      work.#entry = entry;
      work.#result = result;
      if (work.#source < 0) work.#source = source;
      if (work.#phase === Phase.Pending) owner.onStart();
      else owner.onEnd(work, false, entry);
    };
  }

  /** A Work over a promise of code whose progress nobody can force. Its `wait()` cannot block: it fails unless settled. */
  static fromPromise<T>(promise: PromiseLike<T>, init: WorkInit = { opType: OpType.UNKNOWN }): Work<T> {
    return new PromiseWork(promise, init);
  }

  /** A Work that has succeeded. */
  static completed<T>(value: T, init: WorkInit): Work<T> {
    return new SettledWork(init, value);
  }

  /** A Work that has failed, e.g. because an argument is wrong. It has no sequence number. */
  static rejected<T>(error: unknown, init: WorkInit): Work<T> {
    return new SettledWork<T>(init, undefined, asError(error, init));
  }

  /** Kind of the op. */
  readonly opType: OpType;
  /** Sequence number in the group; -1 without one. */
  readonly seq: number;
  #owner: WorkOwner | undefined;
  #entry = -1;
  #result: unknown = OWN_RESULT;
  #source = -1;
  readonly #started = performance.now();
  #finished = 0;
  #phase: Phase = Phase.Pending;
  #error: DistError | undefined;
  #observed = false;
  #whole: FailedWork | undefined;
  #guard: WorkGuard | undefined;
  #listeners: (() => void)[] | undefined;
  #promise: Promise<T> | undefined;
  // `never` keeps Work<T> covariant: a Work<Float32Array> is a Work<unknown>.
  #resolve: ((value: never) => void) | undefined;
  #reject: ((error: unknown) => void) | undefined;

  constructor(init: WorkInit) {
    this.opType = init.opType;
    this.seq = init.seq ?? -1;
  }

  /**
   * Blocks until {@link settle} was called, or throws {@link waitTimeout} when `limitMs` runs out. Called while pending only. One
   * that stands for another Work blocks by that with {@link blockOn}, and then settles.
   */
  protected abstract block(limitMs: number): void;

  /**
   * Whether the op ends by its own limit at the latest, `wait()` included. Default is `false`: the process group watches over it, and
   * fails it a second after its limit. For backends.
   */
  get keepsLimit(): boolean {
    return false;
  }

  /** The result of a successful op, where the process group does not say what it is. */
  protected value(): T {
    return undefined as T;
  }

  #valueNow(): T {
    return this.#result === OWN_RESULT ? this.value() : (this.#result as T);
  }

  /** Tells which rank of the group a message has come from, before {@link settle}. For backends. */
  cameFrom(groupRank: number): void {
    this.#source = groupRank;
  }

  /** Takes over the number of the op that this one stands for. */
  protected takeNumber(seq: number): void {
    (this as { seq: number }).seq = seq;
  }

  /** Ends the op; a second call is ignored. For backends. */
  settle(error?: DistError): void {
    this.#settle(error);
  }

  #settle(error: DistError | undefined): void {
    if (this.#phase !== Phase.Pending) return;
    if (error === undefined) {
      this.#end(undefined);
      return;
    }
    const known: Error = asError(error, this);
    const isOurs = known instanceof DistError || (this.#guard === undefined && this.#owner?.errorOf === undefined);
    // One that nobody knows yet is named by whoever it is given to.
    this.#end(isOurs ? (known as DistError) : this.#errorOf(messageOf(known), { cause: known }));
  }

  #end(error: DistError | undefined): void {
    this.#finished = performance.now();
    if (error === undefined) {
      this.#phase = Phase.Succeeded;
      if (this.#resolve !== undefined) this.#giveValue(this.#resolve as (value: T) => void, this.#reject);
    } else {
      this.#phase = Phase.Failed;
      this.#error = error;
      if (this.#observed) this.#look();
      this.#reject?.(this.#error);
    }
    this.#owner?.onEnd(this, true, this.#entry);
    if (this.#listeners !== undefined) for (const listener of this.#listeners.splice(0)) callUserCode(listener);
  }

  /**
   * Calls `listener` as soon as the op has ended either way, also from within `wait()`; at once if it has ended. Does
   * not count as a look at the outcome. What it throws is an uncaught exception and does not concern the op. For
   * middleware.
   */
  whenEnded(listener: () => void): void {
    this.#whenEnded(listener);
  }

  #whenEnded(listener: () => void): void {
    if (this.#phase !== Phase.Pending) callUserCode(listener);
    else {
      this.#listeners ??= [];
      this.#listeners.push(listener);
    }
  }

  /** A Work of a plugin may fail to make its value. */
  #giveValue(resolve: (value: T) => void, reject?: (error: unknown) => void): void {
    try {
      resolve(this.#valueNow());
    } catch (error) {
      reject?.(error);
    }
  }

  /** Notes that somebody has looked at the outcome. What has no owner is a part of another op, which has the same error. */
  #look(): void {
    this.#observed = true;
    if (this.#error !== undefined && this.#owner !== undefined) seenErrors.add(this.#error);
  }

  then<A = T, B = never>(
    onFulfilled?: ((value: T) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.#look();
    this.#promise ??= new Promise<T>((resolve, reject) => {
      if (this.#phase === Phase.Succeeded) resolve(this.#valueNow());
      else if (this.#phase === Phase.Failed) reject(this.#error);
      else {
        this.#resolve = resolve;
        this.#reject = reject;
      }
    });
    return this.#promise.then(onFulfilled, onRejected);
  }

  /** {@link then} with a rejection handler only. */
  catch<B = never>(onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<T | B> {
    return this.then(undefined, onRejected);
  }

  /** Runs `onEnd` when the op has ended either way. */
  finally(onEnd?: (() => void) | null): Promise<T> {
    return this.then().finally(onEnd);
  }

  /**
   * Blocks this thread until the op has ended; on every device, the host waits.
   *
   * @param options.timeout Limit of the waiting alone: when it runs out the op stays pending and its buffers borrowed.
   *   None by default.
   * @returns true, as c10d's; the result is what `await` or `result()` give.
   * @throws DistTimeoutError (`WAIT_TIMEOUT`), InvalidArgumentError for a limit that is none, or the op's own error.
   */
  wait(options: { readonly timeout?: Timeout } = {}): true {
    if (typeof options !== "object" || options === null) {
      // A bare number must not come to mean "for ever".
      throw new InvalidArgumentError(`${this.describe()}: wait() takes { timeout }, got ${describe(options)}`, {
        argument: "options",
      });
    }
    for (const name in options) {
      if (name === "timeout") continue;
      throw new InvalidArgumentError(`${this.describe()}: wait() takes { timeout }, got the unknown option ${name}`, {
        argument: name,
      });
    }
    const limitMs = timeoutMs(options.timeout, Number.POSITIVE_INFINITY);
    if (this.#phase === Phase.Pending) this.#blockWithin(limitMs);
    this.#look();
    if (this.#error !== undefined) throw this.#error;
    return true;
  }

  /** Blocks until the op has ended, which its class may do wrong. */
  #blockWithin(limitMs: number): void {
    if (this.#guard === undefined) this.#block(limitMs);
    else this.#blockUnder(this.#guard, limitMs);
    this.#requireEnded();
  }

  /** {@link block}, which may be a plugin's own. */
  #block(limitMs: number): void {
    try {
      const returned: unknown = this.block(limitMs);
      // One that is async would otherwise end the process when it rejects.
      if (returned instanceof Promise) returned.catch(() => {});
    } catch (error) {
      throw this.#blockFailure(error);
    }
  }

  #blockFailure(error: unknown): DistError {
    if (error instanceof DistError) return error;
    if (this.#hasBlock) return this.#foreign("block()", error);
    return this.#errorOf("its Work has no block(), by which wait() blocks; await it", { code: "INVALID_WORK" });
  }

  /** One in plain JavaScript may not. */
  get #hasBlock(): boolean {
    try {
      return typeof this.block === "function";
    } catch {
      return true;
    }
  }

  /** What a method of a plugin's own has thrown, as an error of this package. */
  #foreign(method: string, cause: unknown): DistError {
    if (cause instanceof DistError) return cause;
    return this.#errorOf(`${method} of its Work has failed: ${messageOf(cause)}`, { cause });
  }

  /** An error about this op, which names backend and group where they are known. */
  #errorOf(text: string, init: WorkErrorInit): DistError {
    const named = this.#guard?.errorOf(text, init) ?? this.#owner?.errorOf?.(text, init, this);
    if (named !== undefined) return named;
    return new DistBackendError(`${this.describe()}: ${text}`, { ...init, op: opOf(this), seq: numberOf(this) });
  }

  /** {@link block} until the limit of the op has run out, which ends it, or that of the waiting. */
  #blockUnder(guard: WorkGuard, limitMs: number): void {
    const { leftMs } = guard;
    const given = Math.min(limitMs, leftMs);
    const began = performance.now();
    try {
      this.#block(given);
      // One that returns without a word when its time is up: within a millisecond, as timers are.
      const isLate = this.#phase === Phase.Pending && performance.now() - began > given - 1;
      if (isLate) throw this.waitTimeout(limitMs);
    } catch (error) {
      const isOver = error instanceof DistTimeoutError && error.code === "WAIT_TIMEOUT" && leftMs < limitMs;
      if (!isOver) throw error;
      guard.expire();
    }
  }

  /** A Work of a plugin may return from `block` too soon. That must not pass as the end of its op. */
  #requireEnded(): void {
    if (this.#phase !== Phase.Pending) return;
    const text = "its Work has stopped blocking before the op has ended; await it";
    throw this.#errorOf(text, { code: "INVALID_WORK" });
  }

  /** Whether the op has ended, either way. */
  isCompleted(): boolean {
    return this.#phase !== Phase.Pending;
  }

  /** Whether the op has ended well. */
  isSuccess(): boolean {
    return this.#phase === Phase.Succeeded;
  }

  /** The error of a failed op, else undefined. Counts as a look at the outcome. */
  exception(): DistError | undefined {
    if (this.#phase === Phase.Failed) this.#look();
    return this.#error;
  }

  /**
   * The result of an op that has ended: the tensor or tensors of an in-place op.
   * @throws InvalidArgumentError while it is pending, or the op's own error.
   */
  result(): T {
    if (this.#phase === Phase.Pending) {
      throw new InvalidArgumentError(`${this.describe()} is pending: await it or call wait() before result()`, {
        code: "WORK_PENDING",
      });
    }
    this.#look();
    if (this.#error !== undefined) throw this.#error;
    return this.#valueNow();
  }

  /**
   * Rank (global) that a recv got its tensor from; for middleware, which sees a Work before the group does, the rank in the group.
   * @throws UnsupportedOperationError for any other op, and before it has ended well.
   */
  sourceRank(): number {
    if (this.opType !== OpType.RECV && this.opType !== OpType.RECV_ANY_SOURCE) {
      throw new UnsupportedOperationError(`${this.describe()}: only a recv has a source rank`);
    }
    if (!this.isSuccess()) {
      throw new UnsupportedOperationError(`${this.describe()}: the source rank is known only after success`);
    }
    return this.#owner?.globalRankOf(this.#source) ?? this.#source;
  }

  /**
   * Makes the stream of the op wait for it, without blocking for its end; an op of several steps is waited for. Nothing to do on
   * the CPU. c10d: `Work.synchronize`.
   */
  synchronize(): void {}

  /** Whether {@link synchronize} has something to do: the op is on a device with streams. */
  get hasStream(): boolean {
    return false;
  }

  /** Aborts the op and with it its group; nothing if it has ended. */
  abort(): void {
    if (this.#phase !== Phase.Pending) return;
    if (this.#owner?.abort === undefined) {
      throw new UnsupportedOperationError(`${this.describe()} cannot be aborted`);
    }
    this.#owner.abort(`${this.describe()} was aborted`);
  }

  /** Whether somebody has looked at the outcome: of this Work, of a whole that it is part of, or of one with the same error. */
  get observed(): boolean {
    return this.#isObserved;
  }

  get #isObserved(): boolean {
    if (this.#observed || (this.#whole !== undefined && isObserved(this.#whole))) return true;
    return this.#error !== undefined && seenErrors.has(this.#error);
  }

  /** What is known of the op: its type and number, when it began, when it has ended. */
  info(): WorkInfo {
    const { timeOrigin } = performance;
    const pending = this.#phase === Phase.Pending;
    return {
      opType: this.opType,
      seq: this.seq,
      timeStarted: new Date(timeOrigin + this.#started),
      timeFinished: pending ? undefined : new Date(timeOrigin + this.#finished),
      activeDuration: (pending ? performance.now() : this.#finished) - this.#started,
    };
  }

  /**
   * Waits at the end of an `await using` block, and throws the op's error unless somebody has looked at it, or at the
   * failure of the group that it follows from: thrown again, it would hide the error that the block has ended with.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise<void>((resolve) => this.#whenEnded(resolve));
    if (this.#error === undefined) return;
    const known = this.#isObserved || this.#owner?.failureSeen === true;
    this.#look();
    if (!known) throw this.#error;
  }

  protected describe(): string {
    const seq = numberOf(this);
    return seq < 0 ? opOf(this) : `${opOf(this)} #${seq}`;
  }

  /** Blocks until a part of this Work has ended, within a `wait()` of this one that was given `limitMs`. */
  protected blockOn(part: Work<unknown>, deadline: number, limitMs: number): void {
    if (hasEnded(part)) return;
    const left = deadline - performance.now();
    if (left <= 0) throw this.waitTimeout(limitMs);
    try {
      part.#blockWithin(left);
    } catch (error) {
      throw error instanceof DistTimeoutError && error.code === "WAIT_TIMEOUT" ? this.waitTimeout(limitMs) : error;
    }
  }

  /** Blocks until what has to end before this Work can begin has ended. */
  protected blockOnAhead(ahead: Work<unknown>, deadline: number, limitMs: number): void {
    if (hasEnded(ahead)) {
      // Who begins this one is notified of it later: a listener that comes before is waiting.
      throw new UnsupportedOperationError(
        `${this.describe()}: wait() was called from within the end of the op before; await it`,
        { code: "WAIT_WOULD_DEADLOCK" },
      );
    }
    this.blockOn(ahead, deadline, limitMs);
  }

  /** {@link synchronize} of a part of this Work, which may be a plugin's own. */
  protected synchronizeOn(part: Work<unknown>): void {
    try {
      part.synchronize();
    } catch (error) {
      throw part.#foreign("synchronize()", error);
    }
  }

  /** {@link hasStream} of a part of this Work, which may be a plugin's own. */
  protected isOnStream(part: Work<unknown>): boolean {
    try {
      return part.hasStream;
    } catch (error) {
      throw part.#foreign("hasStream", error);
    }
  }

  /** The error of a wait that ran out while the op goes on. */
  protected waitTimeout(limitMs: number): DistTimeoutError {
    return new DistTimeoutError(
      `${this.describe()}: waited ${limitMs} ms; the op is still pending and its buffers are still borrowed`,
      { code: "WAIT_TIMEOUT", op: opOf(this), seq: numberOf(this), timeoutMs: limitMs },
    );
  }
}

/** Sequence number of an op; -1 without one, and where the class of its Work fails to tell. */
export function numberOf(work: { readonly seq: number }): number {
  try {
    const { seq } = work;
    return typeof seq === "number" ? seq : -1;
  } catch {
    return -1;
  }
}

/** Name of the kind of an op, for messages; also where the class of its Work fails to tell. */
export function opOf(work: { readonly opType: OpType }): string {
  try {
    return opNames[work.opType] ?? "op";
  } catch {
    return "op";
  }
}

/**
 * What is a Work is decided here: one of this copy of the package as it is, one of another copy as one of ours that ends as it does,
 * and undefined for anything else. A promise is none, whose value says nothing of how the op has ended.
 */
export function workOf(value: unknown, opType: OpType): Work<unknown> | undefined {
  if (isWork(value)) return value;
  return value instanceof Work ? Work.fromPromise<unknown>(value, { opType }) : undefined;
}

/** Errors of others pass as they are; what is no error at all, `undefined` included, becomes one. */
export function asError(reason: unknown, of: Pick<WorkInit, "opType">): DistError {
  if (reason instanceof Error) return reason as DistError;
  const op = opOf(of);
  return new DistBackendError(`${op}: rejected with ${describe(reason)}, which is no Error`, { op, cause: reason });
}

/** Emits a process warning for a failed Work that nobody has looked at; the warning does not count as a look. */
export function warnIfUnobserved(work: FailedWork): void {
  if (isObserved(work)) return;
  const error = failureOf(work);
  if (error) warn(`unobserved failure: ${error.message}`, error.code);
}

class SettledWork<T> extends Work<T> {
  readonly #value: T | undefined;

  constructor(init: WorkInit, value: T | undefined, error?: DistError) {
    super(init);
    this.#value = value;
    this.settle(error);
  }

  protected override block(): void {}

  protected override value(): T {
    return this.#value as T;
  }
}

class PromiseWork<T> extends Work<T> {
  #value: T | undefined;

  constructor(promise: PromiseLike<T>, init: WorkInit) {
    super(init);
    // Of a thenable of the user's own, `then` might throw.
    Promise.resolve(promise).then(
      (value) => {
        this.#value = value;
        this.settle();
      },
      (reason: unknown) => this.settle(asError(reason, init)),
    );
  }

  protected override block(): void {
    throw new UnsupportedOperationError(
      `${this.describe()}: wait() cannot block on this Work, whose steps run on this very thread; await it`,
      { code: "WAIT_WOULD_DEADLOCK", op: opNames[this.opType] },
    );
  }

  protected override value(): T {
    return this.#value as T;
  }
}
