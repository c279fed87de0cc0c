import { DistBackendError, type DistError, DistTimeoutError, messageOf, warn } from "../errors/index.ts";
import { type Clock, scheduleOn, systemClock } from "../registry/index.ts";
import { type GroupState, lookAt } from "../work/index.ts";
import type { GroupWorks } from "./group-works.ts";
import type { OpDispatcher } from "./op-dispatcher.ts";
import { foreignFailure } from "./pipeline/foreign-failure.ts";
import { CLOSE_LIMIT_MS } from "./pipeline/limited-close.ts";
import type { Pipeline } from "./pipeline/pipeline.ts";

/** How often a backend is asked whether it still has something in flight. */
const LOOK_MS = 1_000;

/** State and end of a group: open, failed, closed. */
export class GroupLife {
  readonly #name: string;
  readonly #rank: number;
  readonly #pipelines: readonly Pipeline[];
  readonly #clock: Clock;
  readonly #onClose: (() => Promise<void>) | undefined;
  #closing: Promise<void> | undefined;

  constructor(name: string, rank: number, pipelines: readonly Pipeline[], onClose?: () => Promise<void>) {
    this.#name = name;
    this.#rank = rank;
    this.#pipelines = pipelines;
    this.#clock = pipelines[0]?.clock ?? systemClock;
    this.#onClose = onClose;
  }

  /** OPEN while all its backends are. */
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

  /** Fails what is in flight, and the group with it. */
  abort(reason: string): void {
    abortAll(this.#pipelines, reason);
  }

  /** An op has failed: if that was fatal, middleware may hold Works that nothing else will end. */
  onFailure(error: DistError | undefined): void {
    for (const pipeline of this.#pipelines) {
      if (pipeline.state === "FAILED") pipeline.endHeld("the group has failed", error);
    }
  }

  /**
   * Waits for what is in flight, closes the group, and throws the first error that nobody has looked at.
   * @param limitMs Limit of the waiting, after which the rest is aborted.
   */
  async drain(limitMs: number, works: GroupWorks, dispatcher: OpDispatcher): Promise<void> {
    // Async, since a user's backend may throw in any of its methods, and the group has to be closed anyway.
    const drained = async () => {
      const busy = works.inFlight > 0 || dispatcher.isBusy || this.#pipelines.some(({ inFlight }) => inFlight > 0);
      // One that has failed has nothing to bring to its end; one that is open may have what no Work stands for.
      if (!busy && this.state !== "OPEN") return;
      const deadline = this.#clock.now() + limitMs;
      const isIdle = await endsWithin(Promise.all([works.idle(), dispatcher.idle()]), limitMs, this.#clock);
      if (!isIdle) throw this.#stillBusy(limitMs);
      throwFirst(await Promise.allSettled(this.#pipelines.map((each) => this.#drained(each, limitMs, deadline))));
    };
    const [late] = await Promise.allSettled([
      drained().catch((error: unknown) => {
        throw foreignFailure("draining it", { group: this.#name }, error);
      }),
    ]);
    const { unseen } = works;
    const error = unseen[0] && lookAt(unseen[0]);
    const further = works.unseen.length;
    const [closed] = await Promise.allSettled([this.close()]);
    if (closed?.status === "rejected" && (error !== undefined || late?.status === "rejected")) {
      warn(`closing group "${this.#name}" failed: ${messageOf(closed.reason)}`);
    }
    if (further > 0)
      warn(`group "${this.#name}" had further failed ops that nobody looked at: at least ${further}`, error?.code);
    if (error !== undefined) throw error;
    throwFirst([late, closed]);
  }

  /** `drained()` of a backend, until the deadline while it has something in flight; else it is not waited for for long. */
  async #drained(pipeline: Pipeline, limitMs: number, deadline: number): Promise<void> {
    const { name } = pipeline.plugin;
    const drained = pipeline.drained();
    while (pipeline.inFlight > 0) {
      const leftMs = deadline - this.#clock.now();
      if (leftMs <= 0) throw this.#stillBusy(limitMs, name);
      if (await endsWithin(drained, Math.min(leftMs, LOOK_MS), this.#clock)) return;
    }
    if (await endsWithin(drained, CLOSE_LIMIT_MS, systemClock)) return;
    throw new DistTimeoutError(
      `group "${this.#name}": backend "${name}" has nothing in flight, and its drained() had not resolved after ${CLOSE_LIMIT_MS} ms`,
      { code: "DRAIN_TIMEOUT", group: this.#name, backend: name, timeoutMs: CLOSE_LIMIT_MS },
    );
  }

  #stillBusy(limitMs: number, backend?: string): DistTimeoutError {
    const who = `group "${this.#name}"${backend === undefined ? "" : ` (backend "${backend}")`}`;
    return new DistTimeoutError(
      `destroyProcessGroup: ${who} still had ops in flight after ${limitMs} ms; they were aborted`,
      { code: "DRAIN_TIMEOUT", group: this.#name, ...(backend !== undefined && { backend }), timeoutMs: limitMs },
    );
  }

  /**
   * Aborts what is in flight and closes the group. The built-in backends take a second at most; one that takes more than ten is
   * given up, by a `DistTimeoutError`. Does nothing the second time.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const ends = await Promise.allSettled(this.#pipelines.map((pipeline) => pipeline.close()));
    // A backend that fails to close must not keep the rank in a world that is gone.
    throwFirst([...ends, ...(await Promise.allSettled([this.#onClose?.()]))]);
  }
}

/** Aborts all of several, and then throws the first error of one that could not. */
export function abortAll(all: readonly { abort(reason: string): void }[], reason: string): void {
  callAll("abort()", all, (each) => each.abort(reason));
}

/** Calls a method of all of several, and then throws the first error of one. */
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
  for (const error of others) warn(`${method} has failed once more: ${messageOf(error)}`);
  if (errors.length > 0) throw first;
}

/** Throws the first reason of those that have failed. */
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
