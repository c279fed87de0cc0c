import {
  absenceText,
  addToError,
  DistBackendError,
  type DistError,
  DistTimeoutError,
  messageOf,
  warn,
} from "../errors/index.ts";
import { type Clock, scheduleOn, systemClock } from "../registry/index.ts";
import { failureOf, type GroupState, lookAt } from "../work/index.ts";
import type { GroupWorks } from "./group-works.ts";
import type { OpDispatcher } from "./op-dispatcher.ts";
import { CLOSE_LIMIT_MS } from "./pipeline/close-within.ts";
import type { Pipeline } from "./pipeline/pipeline.ts";
import { userCodeFailure } from "./pipeline/user-code-failure.ts";

/** How often a backend is asked whether it still has something in flight. */
const LOOK_MS = 1_000;

/** What a group is notified of. */
export interface LifeEvents {
  /** Before the ops in flight are aborted, possibly more than once. */
  onFailing(reason: string, error?: DistError): void;
  /** The ranks have made different calls. At debug level DETAIL the group goes on, as in PyTorch. */
  onDesync(): void;
  /** Before it waits for its ops and closes, possibly more than once. */
  onClosing(): void;
  /** Once, when it has been closed. */
  onClose(): Promise<void> | undefined;
}

/** State and shutdown of a group: open, failed, closed. */
export class GroupLife {
  readonly #name: string;
  readonly #rank: number;
  readonly #pipelines: readonly Pipeline[];
  readonly #clock: Clock;
  readonly #events: LifeEvents;
  #closing: Promise<void> | undefined;

  constructor(name: string, rank: number, pipelines: readonly Pipeline[], events: LifeEvents) {
    this.#name = name;
    this.#rank = rank;
    this.#pipelines = pipelines;
    this.#clock = pipelines[0]?.clock ?? systemClock;
    this.#events = events;
    for (const pipeline of pipelines) pipeline.onFailing = (reason, error) => this.#failing(reason, error);
  }

  #failing(reason: string, error?: DistError): void {
    if (this.#closing === undefined) this.#events.onFailing(reason, error);
  }

  /** OPEN while all its backends are open. */
  get state(): GroupState {
    if (this.#closing !== undefined) return "CLOSED";
    for (const { state } of this.#pipelines) if (state !== "OPEN") return state;
    return "OPEN";
  }

  /** @throws DistBackendError (`GROUP_CLOSED`) once the group is closed. */
  requireOpen(op: string): void {
    if (this.#closing === undefined) return;
    throw new DistBackendError(
      `${op}: group "${this.#name}" is closed; make a new one with initProcessGroup() or newGroup()`,
      { code: "GROUP_CLOSED", group: this.#name, op, rank: this.#rank },
    );
  }

  /** Fails the ops in flight, and the group with them. */
  abort(reason: string): void {
    this.#failing(reason);
    // Those with ops in flight first: other ranks may notice the end of one device before this one has ended the next, and
    // the ops on that are to fail by the abort.
    const busy = new Set(this.#pipelines.filter(isBusy));
    abortAll([...busy, ...this.#pipelines.filter((each) => !busy.has(each))], reason);
  }

  /** An op has failed: if the group failed with it, middleware may hold Works that nothing else will end. */
  onFailure(error: DistError | undefined): void {
    if (error?.code === "DESYNC") this.#events.onDesync();
    if (error !== undefined && this.state === "FAILED") this.#failing(error.message, error);
    for (const pipeline of this.#pipelines) {
      if (pipeline.state === "FAILED") pipeline.endHeld("the group has failed", error);
    }
  }

  /**
   * Waits for the ops in flight, closes the group, and throws the first error that was not observed.
   * @param limitMs How long to wait before the remaining ops are aborted.
   */
  async drain(limitMs: number, works: GroupWorks, dispatcher: OpDispatcher): Promise<void> {
    this.#events.onClosing();
    // Async, since a user's backend may throw in any of its methods, and the group has to be closed anyway.
    const drained = async () => {
      const busy = works.inFlight > 0 || dispatcher.isBusy || this.#pipelines.some(({ inFlight }) => inFlight > 0);
      // A failed group has nothing left to finish; an open one may have work that no Work represents.
      if (!busy && this.state !== "OPEN") return;
      const deadline = this.#clock.now() + limitMs;
      const isIdle = await endsWithin(Promise.all([works.idle(), dispatcher.idle()]), limitMs, this.#clock);
      if (!isIdle) throw this.#stillBusy(limitMs, works);
      throwFirst(
        await Promise.allSettled(this.#pipelines.map((each) => this.#drained(each, works, limitMs, deadline))),
      );
    };
    const [late] = await Promise.allSettled([
      drained().catch((error: unknown) => {
        throw userCodeFailure("draining it", { group: this.#name }, error);
      }),
    ]);
    const { unobserved } = works;
    const error = unobserved[0] && lookAt(unobserved[0]);
    const further = works.unobserved.length;
    const [closed] = await Promise.allSettled([this.close()]);
    if (late?.status === "rejected") this.#addMissing(late.reason, works);
    if (closed?.status === "rejected" && (error !== undefined || late?.status === "rejected")) {
      warn(`closing group "${this.#name}" failed: ${messageOf(closed.reason)}`);
    }
    if (further > 0)
      warn(`group "${this.#name}" had further failed ops that were not observed: at least ${further}`, error?.code);
    if (error !== undefined) throw error;
    throwFirst([late, closed]);
  }

  /** Adds the ranks for which the ops have timed out meanwhile, if nothing was known of them before. */
  #addMissing(error: unknown, { unobserved }: GroupWorks): void {
    if (!(error instanceof DistTimeoutError) || error.details.peers !== undefined) return;
    const peers = unobserved.flatMap((work) => {
      const failure = failureOf(work);
      return failure?.code === "OP_TIMEOUT" ? [failure.details.peers ?? []] : [];
    })[0];
    if (peers !== undefined && peers.length > 0) addToError(error, absenceText(this.#rank, peers), { peers });
  }

  /** Waits for a backend's `drained()`: until the deadline while it has something in flight, else only briefly. */
  async #drained(pipeline: Pipeline, works: GroupWorks, limitMs: number, deadline: number): Promise<void> {
    const { name } = pipeline.plugin;
    const drained = pipeline.drained();
    while (pipeline.inFlight > 0) {
      const leftMs = deadline - this.#clock.now();
      if (leftMs <= 0) throw this.#stillBusy(limitMs, works, name);
      if (await endsWithin(drained, Math.min(leftMs, LOOK_MS), this.#clock)) return;
    }
    if (await endsWithin(drained, CLOSE_LIMIT_MS, systemClock)) return;
    throw new DistTimeoutError(
      `group "${this.#name}": backend "${name}" has nothing in flight, but its drained() did not resolve within ${CLOSE_LIMIT_MS} ms`,
      { code: "DRAIN_TIMEOUT", group: this.#name, backend: name, timeoutMs: CLOSE_LIMIT_MS },
    );
  }

  #stillBusy(limitMs: number, works: GroupWorks, backend?: string): DistTimeoutError {
    const { text, details } = works.pending();
    const owner = `group "${this.#name}"${backend === undefined ? "" : ` (backend "${backend}")`}`;
    return new DistTimeoutError(
      `destroyProcessGroup: ${owner} still had ops in flight after ${limitMs} ms; they were aborted${text && `: ${text}`}`,
      {
        ...details,
        rank: this.#rank,
        code: "DRAIN_TIMEOUT",
        group: this.#name,
        ...(backend !== undefined && { backend }),
        timeoutMs: limitMs,
      },
    );
  }

  /**
   * Aborts the ops in flight and closes the group. The built-in backends take a second at most; a backend that takes
   * more than ten is abandoned with a `DistTimeoutError`. Calling it again does nothing.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#events.onClosing();
    const ends = await Promise.allSettled(this.#pipelines.map((pipeline) => pipeline.close()));
    // A backend that fails to close must not keep the rank in a world that no longer exists.
    throwFirst([...ends, ...(await Promise.allSettled([this.#events.onClose()]))]);
  }
}

/** Aborts all of them, then throws the first error, if any. */
export function abortAll(all: readonly { abort(reason: string): void }[], reason: string): void {
  callAll("abort()", all, (each) => each.abort(reason));
}

/** Calls a method on all of them, then throws the first error, if any. */
export function callAll<T>(method: string, all: readonly T[], call: (each: T) => void): void {
  const errors: unknown[] = [];
  for (const each of all) {
    try {
      call(each);
    } catch (error) {
      errors.push(error);
    }
  }
  const [first, ...others] = errors;
  for (const error of others) warn(`${method} failed again: ${messageOf(error)}`);
  if (errors.length > 0) throw first;
}

/** Throws the reason of the first rejected result, if any. */
export function throwFirst(ends: readonly PromiseSettledResult<unknown>[]): void {
  for (const end of ends) if (end.status === "rejected") throw end.reason;
}

async function endsWithin(promise: Promise<unknown>, limitMs: number, clock: Clock): Promise<boolean> {
  if (limitMs === Number.POSITIVE_INFINITY) {
    await promise;
    return true;
  }
  const { promise: limit, resolve } = Promise.withResolvers<false>();
  using _ = scheduleOn(clock, limitMs, () => resolve(false));
  return await Promise.race([promise.then(() => true), limit]);
}

/** Whether a pipeline has ops in flight, or cannot tell. */
function isBusy(pipeline: Pipeline): boolean {
  try {
    return pipeline.inFlight > 0;
  } catch {
    return true;
  }
}
