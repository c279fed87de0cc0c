import { type OpCall, opNames, opTable, opTypeOf } from "../../collectives/index.ts";
import { DistBackendError, type DistError, DistTimeoutError, type ErrorDetails } from "../../errors/index.ts";
import { type Clock, GRACE_MS, scheduleOn, systemClock } from "../../registry/index.ts";
import {
  endWork,
  guardWork,
  hasEnded,
  numberOf,
  onEndOf,
  startedOf,
  type Work,
  type WorkErrorInit,
  type WorkGuard,
} from "../../work/index.ts";

/** Delay after a timer, so that input that has arrived is read before an op is failed for lack of it. */
const TURN_MS = 10;
/** Number of ops kept before those that have ended are removed. */
const MIN_KEPT = 32;

const ours = new WeakSet<object>();

/** Whether an error says that a process group ended an op because nothing else did. */
export function isGuardError(error: object): boolean {
  return ours.has(error);
}

/** The group and the backend whose ops are watched. */
export interface OpLimitsHost {
  readonly group: string;
  readonly backend: string;
  readonly rank: number;
  readonly size: number;
  readonly clock: Clock;
  /** Called when an op had to be ended: the group has failed. */
  onTimeout(error: DistError): void;
}

/**
 * Enforces the time-outs of ops that a backend or a middleware does not end: a second after its time-out such an op
 * fails, and its group with it. There is one timer, for the earliest deadline, and only while ops are in flight that
 * did not end in the turn of the event loop in which they were submitted.
 */
export class OpLimits {
  readonly #host: OpLimitsHost;
  /** Ops in flight, and some that have ended. */
  #ops: WatchedOp[] = [];
  #maxKept = MIN_KEPT;
  #isTurnOpen = false;
  #timer: Disposable | undefined;
  /** When the timer is due, by the clock. */
  #due = Number.POSITIVE_INFINITY;
  /** Number of ops in flight that the timer covers. */
  #followed = 0;
  readonly #onEnd = (): void => {
    if (--this.#followed > 0) return;
    // The timer would keep the process alive.
    this.#disarm();
    for (const timer of this.#ends) clearTimeout(timer);
    this.#ends.clear();
    this.#forgetEnded();
  };
  readonly #ends = new Set<ReturnType<typeof setTimeout>>();
  /** How the group ended; of several ways, the one that leaves the ops the least time. */
  #end: GroupEnd | undefined;
  #collectives = 0;
  #messages = 0;

  constructor(host: OpLimitsHost) {
    this.#host = host;
  }

  /** Counts a call. */
  numberOf({ op, continuation }: OpCall): number {
    if (opTable[op].kind === "message") return ++this.#messages;
    return continuation || op === "refused" ? this.#collectives : ++this.#collectives;
  }

  /** An error about the Work of a call, which names the op, its backend and its group. */
  errorOf(text: string, init: WorkErrorInit, work: Work<void>, call: OpCall, number: number): DistError {
    return this.errorAbout(new WatchedOp(this, work, call, number), text, init);
  }

  /** The same for a watched op. */
  errorAbout(op: WatchedOp, text: string, init: WorkErrorInit): DistError {
    const { text: where, details } = this.#whereIs(op);
    return new DistBackendError(`${where}: ${text}`, { ...details, ...init });
  }

  /** Watches the pending Work of a call; `number` is used if it has no number of its own. */
  watch(work: Work<void>, call: OpCall, number: number): void {
    const op = new WatchedOp(this, work, call, number);
    guardWork(work, op);
    if (this.#ops.push(op) > this.#maxKept) {
      this.#forgetEnded();
      this.#maxKept = Math.max(MIN_KEPT, 2 * this.#ops.length);
    }
    if (this.#host.clock === systemClock) this.#openTurn();
    else {
      // Its deadline may pass before the turn is over.
      op.due = this.#host.clock.now() + op.timeoutMs;
      this.#follow(op);
    }
    // The group ended while the op was being submitted: the op ends with those that were in flight.
    if (this.#end === undefined) return;
    this.#follow(op);
    if (this.#ends.size === 0) this.#endPending(this.#end);
  }

  /** Most ops end within the turn, in `wait()`: they need no timer. */
  #openTurn(): void {
    if (this.#isTurnOpen) return;
    this.#isTurnOpen = true;
    setImmediate(() => {
      this.#isTurnOpen = false;
      this.#forgetEnded();
      for (const op of this.#ops) this.#follow(op);
    });
  }

  /** From now on the timer covers the op. */
  #follow(op: WatchedOp): void {
    if (op.isFollowed) return;
    op.isFollowed = true;
    this.#followed++;
    this.#arm(op.due);
    onEndOf(op.work, this.#onEnd);
  }

  #forgetEnded(): void {
    this.#ops = this.#ops.filter(({ work }) => !hasEnded(work));
  }

  #disarm(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
    this.#due = Number.POSITIVE_INFINITY;
  }

  /** Sets the timer, unless it is due earlier. */
  #arm(due: number): void {
    if (due >= this.#due) return;
    this.#disarm();
    this.#due = due;
    const { clock } = this.#host;
    this.#timer = scheduleOn(clock, Math.max(0, due - clock.now()), () => this.#onTimer());
  }

  #onTimer(): void {
    this.#disarm();
    this.#forgetEnded();
    const now = this.#host.clock.now();
    let next = Number.POSITIVE_INFINITY;
    for (const op of this.#ops) {
      if (op.due <= now) {
        // Counted from now, since this thread may have been busy when the deadline passed.
        op.due = op.isOverdue ? Number.POSITIVE_INFINITY : now + GRACE_MS;
        if (op.isOverdue) setTimeout(() => op.expire(), TURN_MS);
        op.isOverdue = true;
      }
      next = Math.min(next, op.due);
    }
    this.#arm(next);
  }

  /** Fails an op whose deadline has passed, and its group unless that has already ended. */
  expire(op: WatchedOp): void {
    if (hasEnded(op.work)) return;
    if (this.#end !== undefined && this.#end.dueMs - performance.now() < 1) {
      this.#endWith(op, this.#end);
      return;
    }
    const { text, details } = this.#whereIs(op);
    const { timeoutMs } = op;
    const message = `${text}: timed out after ${timeoutMs} ms, and neither the backend nor its middleware ended it within ${GRACE_MS} ms after that`;
    const error = new DistTimeoutError(message, { ...details, code: "OP_TIMEOUT", timeoutMs });
    ours.add(error);
    // Before the abort, whose error says less.
    endWork(op.work, error);
    this.#host.onTimeout(error);
  }

  /**
   * The group has ended: fails what is still pending after this many milliseconds, and what is watched later. In real
   * time, like everything that ends a group.
   */
  endAll(reason: string, afterMs: number): void {
    const end = { reason, afterMs, dueMs: performance.now() + afterMs };
    if (this.#end === undefined || end.dueMs < this.#end.dueMs) this.#end = end;
    this.#forgetEnded();
    if (this.#ops.length === 0) return;
    for (const op of this.#ops) this.#follow(op);
    this.#endPending(end);
  }

  #endPending(end: GroupEnd): void {
    const timer = setTimeout(() => {
      this.#ends.delete(timer);
      for (const op of this.#ops) if (!hasEnded(op.work)) this.#endWith(op, end);
    }, end.afterMs);
    this.#ends.add(timer);
  }

  #endWith(op: WatchedOp, { reason, afterMs }: GroupEnd): void {
    const { text, details } = this.#whereIs(op);
    const message = `${text}: ${reason}. Neither the backend nor its middleware ended the op within ${afterMs} ms after that`;
    const error = new DistBackendError(message, { ...details, code: "ABORTED" });
    ours.add(error);
    endWork(op.work, error);
  }

  /** How long a `wait()` may block for an op after its group ended; Infinity before. */
  get leftMs(): number {
    if (this.#end === undefined) return Number.POSITIVE_INFINITY;
    return Math.max(GRACE_MS, this.#end.dueMs - performance.now());
  }

  #whereIs({ work, name, number }: WatchedOp): { readonly text: string; readonly details: ErrorDetails } {
    const { group, backend, rank, size } = this.#host;
    const own = numberOf(work);
    const seq = own < 0 ? number : own;
    const text = `${name} #${seq} (${backend}, group "${group}", rank ${rank} of ${size})`;
    return { text, details: { backend, group, op: name, seq, rank } };
  }
}

/** How a group ended, and the deadline for what is in flight. */
interface GroupEnd {
  readonly reason: string;
  readonly afterMs: number;
  /** In real time. */
  readonly dueMs: number;
}

/** An op that may not end by itself. */
class WatchedOp implements WorkGuard {
  readonly work: Work<void>;
  readonly timeoutMs: number;
  readonly number: number;
  /** When the timer must check it, by the clock, which is the system's unless another one is set. */
  due: number;
  isFollowed = false;
  /** Whether its time-out has expired. */
  isOverdue = false;
  readonly #limits: OpLimits;
  readonly #op: OpCall["op"];
  readonly #peer: number;

  constructor(limits: OpLimits, work: Work<void>, call: OpCall, number: number) {
    this.#limits = limits;
    this.#op = call.op;
    this.#peer = call.peer;
    this.work = work;
    this.timeoutMs = call.timeoutMs;
    this.number = number;
    this.due = startedOf(work) + call.timeoutMs;
  }

  get name(): string {
    return opNames[opTypeOf({ op: this.#op, peer: this.#peer })];
  }

  /** In real time, like all blocking. At least the grace period: a late `wait()` may be what completes the op. */
  get leftMs(): number {
    const ownMs = Math.max(0, startedOf(this.work) + this.timeoutMs - performance.now()) + GRACE_MS;
    return Math.min(ownMs, this.#limits.leftMs);
  }

  expire(): void {
    this.#limits.expire(this);
  }

  errorOf(text: string, init: WorkErrorInit): DistError {
    return this.#limits.errorAbout(this, text, init);
  }
}
