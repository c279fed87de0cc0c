import { opNames } from "../collectives/op-table.ts";
import { OpType } from "../collectives/op-type.ts";
import {
  brand,
  type CallSite,
  callUserCode,
  DistBackendError,
  DistError,
  DistTimeoutError,
  describe,
  InvalidArgumentError,
  messageOf,
  renameOp,
  UnsupportedOperationError,
  warn,
  watchReturned,
} from "../errors/index.ts";
import { type Timeout, timeoutMs, WaitCounter } from "../time/index.ts";
import type { WorkInfo } from "./work-info.ts";

/** The error of a failed Work, else undefined. Does not mark it as observed. */
export let failureOf: (work: object) => DistError | undefined;

/**
 * Makes a Work part of another one: observing the whole also observes the failure of the part, and errors about the part
 * name the whole once that is {@link bindWork bound}.
 */
export let joinWhole: (part: object, whole: FailedWork) => void;

/**
 * Assigns a Work to a group, which is then notified of its end and reports its failure. Once for each Work.
 *
 * @param result What the op resolves to, possibly `undefined`; {@link OWN_RESULT} for the value of the Work itself.
 * @param source Rank in the group that a message comes from, if known beforehand.
 * @param entry Number of its entry in the flight recorder.
 * @param callSite Where user code called the op.
 * @param op Name under which it did.
 */
export let bindWork: (
  work: Work<unknown>,
  owner: WorkOwner,
  result: unknown,
  source?: number,
  entry?: number,
  callSite?: CallSite,
  op?: string,
) => void;

/** The name that a Work was given, or `undefined`; see {@link opOf}. */
let nameOf: (work: object) => string | undefined;

/** Whether an error is about this Work, or about a part of it that the user has no Work of. */
let isAbout: (error: DistError, work: Work<unknown>) => boolean;

/** Whether a Work belongs to a group or is part of another one. */
export let isTaken: (work: object) => boolean;

/** Whether this is a Work of this copy of the package; {@link workOf} also accepts those of another copy. */
export let isWork: (value: unknown) => value is Work<unknown>;

/** Whether an op has ended, regardless of what its Work's class overrides. */
export let hasEnded: (work: Work<unknown>) => boolean;

/** {@link Work.whenEnded}, regardless of what the Work's class overrides. */
export let onEndOf: (work: Work<unknown>, listener: () => void) => void;

/** {@link Work.observed}, regardless of what the Work's class overrides. */
export let isObserved: (work: FailedWork) => boolean;

/** The error of a failed Work, else undefined. Marks the outcome as observed. */
export let lookAt: (work: FailedWork) => DistError | undefined;

/** Ends an op, unless it has ended, even if its Work's class overrides `settle` and that fails. */
export let endWork: (work: Work<unknown>, error: DistError) => void;

/** Ends a Work with the error that its caller threw, unchanged. */
export let discardWork: (work: Work<unknown>, error: DistError) => void;

/** Replaces the error of a Work that failed before it was {@link bindWork bound} by one that says more. */
export let replaceError: (work: Work<unknown>, error: DistError) => void;

/** Rank in the group that a message came from; -1 if unknown. */
export let sourceOf: (work: object) => number;

/** When an op was submitted, by `performance.now()`. */
export let startedOf: (work: Work<unknown>) => number;

/** When an op ended, by `performance.now()`; 0 before. */
export let finishedOf: (work: Work<unknown>) => number;

/** Sets the guard of a Work: from now on, no `wait()` blocks longer than the guard allows. Once for each Work. */
export let guardWork: (work: Work<unknown>, guard: WorkGuard) => void;

/** Time blocked in `wait()` while a worker server runs, by number of the op. */
const waitCounters: WaitCounter[] = [];

function waitCounterOf(opType: OpType): WaitCounter {
  waitCounters[opType] ??= WaitCounter.of(`bun_c10d.wait_counter.Work__wait.${opNames[opType] ?? "unknown"}`);
  return waitCounters[opType];
}

/** The Work that failed first with an error. */
const subjects = new WeakMap<DistError, Work<unknown>>();

/** Errors that were observed, on any of the Works that carry them. */
const seenErrors = new WeakSet<DistError>();

/** A failed op whose error may not have been observed yet. */
export type FailedWork = Pick<Work<unknown>, "observed" | "exception">;

/** The group that a Work belongs to. */
export interface WorkOwner {
  /** One of its ops has been bound and is in flight. */
  onStart(): void;
  /**
   * One of its ops has ended, successfully or not; `wasInFlight` says whether {@link onStart} was called for it.
   * `entry` is what the Work was bound with, -1 without one.
   */
  onEnd(work: Work<unknown>, wasInFlight: boolean, entry: number): void;
  /** Global rank of a rank of the group. */
  globalRankOf(groupRank: number): number;
  /** Whether the group has failed and an error that says so was observed. */
  readonly failureObserved?: boolean;
  /** Fails all ops in flight. */
  abort?(reason: string): void;
  /** Adds what the owner knows to the error of an op, or of a wait for it, before anybody gets that error. */
  explain?(error: DistError, work: Work<unknown>, callSite: CallSite | undefined): void;
  /** Makes an error about one of its ops; without this method, errors name only the op. */
  errorOf?(text: string, init: WorkErrorInit, work: Work<unknown>): DistError;
}

/** What an error about an op has besides its message. */
export interface WorkErrorInit {
  /** `BACKEND_ERROR` by default. */
  readonly code?: string;
  readonly cause?: unknown;
}

/** Enforces the time-out of an op whose backend or middleware may not do so. */
export interface WorkGuard {
  /** How long a `wait()` that begins now may block, in milliseconds. */
  readonly leftMs: number;
  /** Called when a `wait()` has blocked for that long: the op has to end now. */
  expire(): void;
  /** Makes an error about the op that names its backend and group. */
  errorOf(text: string, init: WorkErrorInit): DistError;
}

/** When a library worked on an op, by `performance.now()`. */
export interface LibraryTimes {
  readonly startedMs: number;
  readonly finishedMs: number;
}

/** Parameters of a {@link Work}. */
export interface WorkInit {
  readonly opType: OpType;
  /** Sequence number in the group; -1 by default. */
  readonly seq?: number;
  /** Name of the op as in the API; by default that of its type. */
  readonly op?: string;
}

/** For {@link bindWork}: the op resolves to the value of its Work. */
export const OWN_RESULT = Symbol("own result");

enum Phase {
  Pending,
  Succeeded,
  Failed,
}

/**
 * Handle of an asynchronous op. `await` it for its result, or block this thread with `wait()`.
 *
 * An error that is never observed by `await`, `wait()` or `exception()` becomes a process warning, and
 * `destroyProcessGroup()` rethrows it; it is never an unhandled rejection.
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
    nameOf = (work) => (#error in work ? work.#op : undefined);
    isAbout = (error, work) => {
      const subject = subjects.get(error);
      // One error may end several ops: all of a batch, if one of them is refused.
      if (subject === undefined || error.details?.op !== kindOf(subject)) return false;
      let part: object | undefined = subject;
      while (part !== undefined && part !== work && #error in part) {
        part = part.#owner === undefined ? part.#whole : undefined;
      }
      return part === work;
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
      subjects.set(error, work);
    };
    sourceOf = (work) => (#error in work ? work.#source : -1);
    startedOf = (work) => work.#started;
    finishedOf = (work) => work.#finished;
    guardWork = (work, guard) => {
      work.#guard = guard;
    };
    bindWork = (work, owner, result, source = -1, entry = -1, callSite = undefined, op = undefined) => {
      if (work.#owner !== undefined) throw new TypeError(`${work.describe()} already belongs to a group`);
      work.#owner = owner;
      work.#entry = entry;
      work.#callSite = callSite;
      work.#result = result;
      if (op !== undefined) work.#op = op;
      if (work.#source < 0) work.#source = source;
      if (work.#phase === Phase.Pending) {
        owner.onStart();
        return;
      }
      if (work.#error !== undefined) work.#explain(work.#error);
      owner.onEnd(work, false, entry);
    };
  }

  /** A Work that settles with a promise. Its `wait()` cannot block: it throws while the promise is pending. */
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
  #op: string | undefined;
  #owner: WorkOwner | undefined;
  #entry = -1;
  #callSite: CallSite | undefined;
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
    this.#op = init.op;
  }

  /**
   * Blocks until {@link settle} is called, or throws {@link waitTimeout} after `limitMs`. Called only while pending. A
   * Work that stands for another one blocks on that with {@link blockOn} and then settles.
   */
  protected abstract block(limitMs: number): void;

  /**
   * Whether the op always ends within its own time-out, also under `wait()`. Default is `false`: the process group
   * monitors the op and fails it one second after its time-out. For backends.
   */
  get keepsLimit(): boolean {
    return false;
  }

  /**
   * Whether the op is with the library that carries it out, or has ended; before, it waits for its turn. For the flight
   * recorder. Default is `true`.
   */
  get hasStarted(): boolean {
    return true;
  }

  /**
   * Lets the op begin now, for a caller that goes on computing: else it may begin only when microtasks run. Default does
   * nothing.
   */
  startNow(): void {}

  /** When the library got the op and when it finished it, once that is known. Default is unknown. */
  get libraryTimes(): LibraryTimes | undefined {
    return undefined;
  }

  /** The result of a successful op, unless the process group sets it. */
  protected value(): T {
    return undefined as T;
  }

  #valueNow(): T {
    return this.#result === OWN_RESULT ? this.value() : (this.#result as T);
  }

  /** Sets the rank in the group that a message came from; to be called before {@link settle}. For backends. */
  cameFrom(groupRank: number): void {
    this.#source = groupRank;
  }

  /** Takes over the sequence number of the op that this one stands for. */
  protected takeNumber(seq: number): void {
    (this as { seq: number }).seq = seq;
  }

  /** Ends the op, with an error if it failed; further calls are ignored. For backends. */
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
    // Without a guard or an owner, whatever takes this Work wraps the error.
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
      if (!subjects.has(error)) subjects.set(error, this);
      this.#explain(error);
      if (this.#observed) this.#look();
      this.#reject?.(this.#error);
    }
    this.#owner?.onEnd(this, true, this.#entry);
    if (this.#listeners !== undefined) for (const listener of this.#listeners.splice(0)) callUserCode(listener);
  }

  /** Adds to an error what is known only here, before anybody gets it: by which name the user called the op, for example. */
  #explain(error: DistError): void {
    if (this.#owner === undefined) return;
    // An error about an invalid call is about what a middleware made of the call.
    if (this.#op !== undefined && error.code !== "INVALID_CALL" && isAbout(error, this))
      renameOp(error, this.#op, numberOf(this));
    this.#owner.explain?.(error, this, this.#callSite);
  }

  /**
   * Calls `listener` as soon as the op has ended, successfully or not, also from within `wait()`; at once if it has
   * already ended. Does not mark the outcome as observed. An error that it throws becomes an uncaught exception and
   * does not affect the op. For middleware.
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

  /** Resolves with the value, or rejects if a plugin's `value()` throws. */
  #giveValue(resolve: (value: T) => void, reject?: (error: unknown) => void): void {
    try {
      resolve(this.#valueNow());
    } catch (error) {
      reject?.(error);
    }
  }

  /** Marks the outcome as observed. A Work without an owner is part of another op, which has the same error. */
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

  /** Runs `onEnd` when the op has ended, successfully or not. */
  finally(onEnd?: (() => void) | null): Promise<T> {
    return this.then().finally(onEnd);
  }

  /**
   * Blocks this thread until the op has ended; the host waits, whatever the device.
   *
   * @param options.timeout Time-out of this wait alone: when it expires, the op stays pending and its buffers borrowed.
   *   None by default.
   * @returns true, as c10d's `Work.wait`; `await` or `result()` returns the result.
   * @throws DistTimeoutError (`WAIT_TIMEOUT`), InvalidArgumentError for an invalid time-out, or the op's own error.
   */
  wait(options: { readonly timeout?: Timeout } = {}): true {
    if (typeof options !== "object" || options === null) {
      // A bare number must not be taken for no time-out.
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
    if (this.#phase === Phase.Pending) this.#blockForUser(limitMs);
    this.#look();
    if (this.#error !== undefined) throw this.#error;
    return true;
  }

  #blockForUser(limitMs: number): void {
    const counter = WaitCounter.areRead ? waitCounterOf(this.opType) : undefined;
    const started = counter?.start() ?? 0;
    try {
      this.#blockWithin(limitMs);
    } catch (error) {
      // Parts of an op have no owner: the whole explains their errors.
      if (error instanceof DistError) this.#explain(error);
      throw error;
    } finally {
      counter?.stop(started);
    }
  }

  /** Blocks until the op has ended; throws if its class returns too early. */
  #blockWithin(limitMs: number): void {
    if (this.#guard === undefined) this.#block(limitMs);
    else this.#blockUnder(this.#guard, limitMs);
    this.#requireEnded();
  }

  /** Calls {@link block}, which a plugin may implement. */
  #block(limitMs: number): void {
    try {
      const returned: unknown = this.block(limitMs);
      void watchReturned(returned, () => {});
    } catch (error) {
      throw this.#blockFailure(error);
    }
  }

  #blockFailure(error: unknown): DistError {
    if (error instanceof DistError) return error;
    if (this.#hasBlock) return this.#foreign("block()", error);
    return this.#errorOf("its Work has no block(), which wait() needs; await it", { code: "INVALID_WORK" });
  }

  /** A class in plain JavaScript may have none. */
  get #hasBlock(): boolean {
    try {
      return typeof this.block === "function";
    } catch {
      return true;
    }
  }

  /** Converts what a plugin's method threw to an error of this package. */
  #foreign(method: string, cause: unknown): DistError {
    if (cause instanceof DistError) return cause;
    return this.#errorOf(`${method} of its Work has failed: ${messageOf(cause)}`, { cause });
  }

  /** Makes an error about this op that names backend and group if they are known. */
  #errorOf(text: string, init: WorkErrorInit): DistError {
    const named = this.#guard?.errorOf(text, init) ?? this.#owner?.errorOf?.(text, init, this);
    if (named !== undefined) return named;
    return new DistBackendError(`${this.describe()}: ${text}`, { ...init, op: opOf(this), seq: numberOf(this) });
  }

  /** {@link block} until the time-out of the op expires, which ends it, or that of the wait. */
  #blockUnder(guard: WorkGuard, limitMs: number): void {
    const { leftMs } = guard;
    const given = Math.min(limitMs, leftMs);
    const began = performance.now();
    try {
      this.#block(given);
      // A block() that returns without an error when its time is up; timers are accurate to a millisecond.
      const isLate = this.#phase === Phase.Pending && performance.now() - began > given - 1;
      if (isLate) throw this.waitTimeout(limitMs);
    } catch (error) {
      const isOver = error instanceof DistTimeoutError && error.code === "WAIT_TIMEOUT" && leftMs < limitMs;
      if (!isOver) throw error;
      guard.expire();
    }
  }

  /** A plugin's `block` may return too early. That must not count as the end of its op. */
  #requireEnded(): void {
    if (this.#phase !== Phase.Pending) return;
    const text = "its Work stopped blocking before the op ended; await it";
    throw this.#errorOf(text, { code: "INVALID_WORK" });
  }

  /** Whether the op has ended, successfully or not. c10d: `Work.is_completed`. */
  isCompleted(): boolean {
    return this.#phase !== Phase.Pending;
  }

  /** Whether the op has ended without an error. c10d: `Work.is_success`. */
  isSuccess(): boolean {
    return this.#phase === Phase.Succeeded;
  }

  /** The error of a failed op, else undefined. Marks the outcome as observed. c10d: `Work.exception`. */
  exception(): DistError | undefined {
    if (this.#phase === Phase.Failed) this.#look();
    return this.#error;
  }

  /**
   * The result of an op that has ended: the tensor or tensors of an in-place op. c10d: `Work.result`.
   * @throws InvalidArgumentError (`WORK_PENDING`) while the op is pending, or the op's own error.
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
   * Global rank that a recv received its tensor from. Middleware, which sees a Work before the group does, gets the
   * rank in the group. c10d: `Work._source_rank`.
   * @throws UnsupportedOperationError for any other op, and unless the recv has succeeded.
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
   * Makes the current stream of the op's device wait for it, or the stream of the op if none was made current, without
   * blocking this thread until it has ended; an op of several steps does block. No effect on the CPU. c10d:
   * `Work.synchronize`.
   */
  synchronize(): void {}

  /** Whether {@link synchronize} has something to do: the op is on a device with streams. */
  get hasStream(): boolean {
    return false;
  }

  /** Aborts the op and with it its group; no effect if it has ended. */
  abort(): void {
    if (this.#phase !== Phase.Pending) return;
    if (this.#owner?.abort === undefined) {
      throw new UnsupportedOperationError(`${this.describe()} cannot be aborted`);
    }
    this.#owner.abort(`${this.describe()} was aborted`);
  }

  /** Whether the outcome was observed: of this Work, of one that it is part of, or of one with the same error. */
  get observed(): boolean {
    return this.#isObserved;
  }

  get #isObserved(): boolean {
    if (this.#observed || (this.#whole !== undefined && isObserved(this.#whole))) return true;
    return this.#error !== undefined && seenErrors.has(this.#error);
  }

  /** Type, sequence number and timing of the op. */
  info(): WorkInfo {
    const { timeOrigin } = performance;
    const pending = this.#phase === Phase.Pending;
    const library = pending ? undefined : libraryTimesOf(this);
    const startedMs = library?.startedMs ?? this.#started;
    const finishedMs = pending ? performance.now() : (library?.finishedMs ?? this.#finished);
    return {
      opType: this.opType,
      seq: this.seq,
      timeStarted: new Date(timeOrigin + startedMs),
      timeFinished: pending ? undefined : new Date(timeOrigin + finishedMs),
      activeDuration: finishedMs - startedMs,
    };
  }

  /**
   * Waits for the op at the end of an `await using` block. Throws its error unless that, or the group failure that
   * caused it, was already observed: thrown again, it would hide the error that ended the block.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise<void>((resolve) => this.#whenEnded(resolve));
    if (this.#error === undefined) return;
    const known = this.#isObserved || this.#owner?.failureObserved === true;
    this.#look();
    if (!known) throw this.#error;
  }

  protected describe(): string {
    const seq = numberOf(this);
    return seq < 0 ? opOf(this) : `${opOf(this)} #${seq}`;
  }

  /** Blocks until a part of this Work has ended, within a `wait()` on this Work with the time-out `limitMs`. */
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

  /** Blocks until the op that has to end before this one can begin has ended. */
  protected blockOnAhead(ahead: Work<unknown>, deadline: number, limitMs: number): void {
    if (hasEnded(ahead)) {
      // The listener that begins this op has not run yet: one that runs before it called wait().
      throw new UnsupportedOperationError(
        `${this.describe()}: wait() was called from a listener of the op before; await it`,
        { code: "WAIT_WOULD_DEADLOCK" },
      );
    }
    this.blockOn(ahead, deadline, limitMs);
  }

  /** Calls {@link synchronize} of a part of this Work, which a plugin may implement. */
  protected synchronizeOn(part: Work<unknown>): void {
    try {
      part.synchronize();
    } catch (error) {
      throw part.#foreign("synchronize()", error);
    }
  }

  /** Reads {@link hasStream} of a part of this Work, which a plugin may implement. */
  protected isOnStream(part: Work<unknown>): boolean {
    try {
      return part.hasStream;
    } catch (error) {
      throw part.#foreign("hasStream", error);
    }
  }

  /** The error of a wait whose time-out expired while the op continues. */
  protected waitTimeout(limitMs: number): DistTimeoutError {
    return new DistTimeoutError(
      `${this.describe()}: waited ${limitMs} ms; the op is still pending and its buffers are still borrowed`,
      { code: "WAIT_TIMEOUT", op: opOf(this), seq: numberOf(this), timeoutMs: limitMs },
    );
  }
}

/** Sequence number of an op; -1 without one, or if the class of its Work fails to provide it. */
export function numberOf(work: { readonly seq: number }): number {
  try {
    const { seq } = work;
    return typeof seq === "number" ? seq : -1;
  } catch {
    return -1;
  }
}

/** When a library worked on an op; `undefined` also if the class of its Work fails to tell. */
export function libraryTimesOf(work: object): LibraryTimes | undefined {
  try {
    return isWork(work) ? work.libraryTimes : undefined;
  } catch {
    return undefined;
  }
}

/** Whether an op has started; a Work that cannot tell has. */
export function hasStarted(work: object): boolean {
  try {
    return !isWork(work) || hasEnded(work) || work.hasStarted;
  } catch {
    return true;
  }
}

/** Name of an op, for messages: that of its kind, unless it has one of its own; `op` if its Work's class fails to tell. */
export function opOf(work: { readonly opType: OpType }): string {
  return nameOf(work) ?? kindOf(work);
}

function kindOf(work: { readonly opType: OpType }): string {
  try {
    return opNames[work.opType] ?? "op";
  } catch {
    return "op";
  }
}

/**
 * The Work that a value is: one of this copy of the package is returned unchanged, one of another copy is wrapped, and
 * anything else is undefined. A promise is not a Work: its value does not say how the op ended.
 */
export function workOf(value: unknown, opType: OpType): Work<unknown> | undefined {
  if (isWork(value)) return value;
  return value instanceof Work ? Work.fromPromise<unknown>(value, { opType }) : undefined;
}

/** Returns an Error unchanged; makes an error of any other value, `undefined` included. */
export function asError(reason: unknown, of: Pick<WorkInit, "opType">): DistError {
  if (reason instanceof Error) return reason as DistError;
  const op = opOf(of);
  return new DistBackendError(`${op}: rejected with ${describe(reason)}, which is not an Error`, { op, cause: reason });
}

/** Emits a process warning for a failed Work whose error was not observed, without marking it as observed. */
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
    // The `then` of a user's thenable might throw.
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
      `${this.describe()}: wait() cannot block on this Work, whose steps run on this thread; await it`,
      { code: "WAIT_WOULD_DEADLOCK", op: opNames[this.opType] },
    );
  }

  protected override value(): T {
    return this.#value as T;
  }
}
