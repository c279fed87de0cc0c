import { type OpCall, type OpType, opNames, opTypeOf } from "../../collectives/index.ts";
import {
  DistBackendError,
  DistError,
  describe,
  type ErrorDetails,
  messageOf,
  warn,
  watchReturned,
} from "../../errors/index.ts";
import {
  abortHelper,
  type Backend,
  type BackendPlugin,
  type Capabilities,
  CapabilityTable,
  type Clock,
  GRACE_MS,
  type GroupContext,
  type Middleware,
  type SettleLimit,
  type Submit,
  setGroupName,
  settledWithin,
} from "../../registry/index.ts";
import { loadedOnce } from "../../registry/services/loaded-once.ts";
import type { Device } from "../../tensor/index.ts";
import { asError, failureOf, type GroupState, hasEnded, isTaken, isWork, Work, workOf } from "../../work/index.ts";
import { closeWithin, endBackend } from "./close-within.ts";
import { copiedCalls } from "./copied-calls.ts";
import { GuardedBackend } from "./guarded-backend.ts";
import { OpLimits } from "./op-limits.ts";
import { userCodeFailure } from "./user-code-failure.ts";

/** How long ops may stay in flight after their group failed: the ranks may first agree on which one is at fault. */
const FAILED_LIMIT_MS = 5_000;

/** Most groups have no middleware. */
const loadGuards = loadedOnce(() => Promise.all([import("./call-boundary.ts"), import("./call-check.ts")]));

/** What a {@link Pipeline} is constructed from. */
export interface PipelineInit {
  readonly group: string;
  readonly device: Device;
  readonly plugin: BackendPlugin;
  readonly backend: Backend;
  /** What the backends of all ranks can do. */
  readonly capabilities: Capabilities;
  readonly clock: Clock;
  /** The group's pipelines, added as they are made: what fails it on one device fails it on all. */
  readonly siblings?: readonly Pipeline[];
}

/** What middleware gets that only its group can provide: see {@link GroupContext}. */
export type MiddlewareHost = Omit<GroupContext, "fail" | "onAbort" | "onClose" | "helperGroup"> & {
  /** Makes another backend for the same ranks. */
  makeHelper(): Promise<Backend>;
};

/** The path of the calls of one group on one device: middleware, then the backend. */
export class Pipeline {
  readonly device: Device;
  readonly plugin: BackendPlugin;
  /** What the plugin created. The group itself calls it only through the methods here. */
  readonly backend: Backend;
  /** Rank in the group. */
  readonly rank: number;
  /** Number of ranks in the group. */
  readonly size: number;
  readonly capabilities: Capabilities;
  readonly table: CapabilityTable;
  readonly clock: Clock;
  readonly #guarded: GuardedBackend;
  readonly #group: string;
  readonly #siblings: readonly Pipeline[];
  #submit: Submit;
  /** The error with which middleware, or another device, failed the group. */
  #failure: DistError | undefined;
  #backendFailure: DistError | undefined;
  /** The error of the op that failed the group. */
  #opFailure: DistError | undefined;
  /** Whether the group is being aborted or closed; failures of the backend are then ignored. */
  #isEnding = false;
  /** Why the Works that middleware holds were ended; `undefined` while the group is open. */
  #endReason: string | undefined;
  /** Names of the middleware, the innermost first. */
  readonly #layers: string[] = [];
  readonly #helpers: Backend[] = [];
  /** Whether it was closed before anything else ended it. */
  #isClosed = false;
  readonly #abortListeners: ((reason: string, isClosed: boolean) => void)[] = [];
  readonly #closeListeners: { readonly name: string; readonly listener: () => void | Promise<void> }[] = [];
  /** Called before the group is failed by this pipeline, possibly more than once. */
  onFailing: (reason: string, error?: DistError) => void = () => {};
  /** Watches Works that might not enforce the time-outs of their ops; `undefined` if all do. */
  #limits: OpLimits | undefined;
  /** A copy of the last list of Works that a backend with its own time-outs returned; middleware may change that. */
  #trusted: readonly unknown[] = [];
  #closing: Promise<void> | undefined;

  constructor({ group, device, plugin, backend, capabilities, clock, siblings = [] }: PipelineInit) {
    this.device = device;
    this.plugin = plugin;
    this.backend = backend;
    setGroupName(backend, group);
    const guarded = new GuardedBackend(backend, plugin.name, group);
    this.#guarded = guarded;
    this.rank = guarded.rank;
    this.size = guarded.size;
    this.capabilities = capabilities;
    this.table = guarded.tried("capabilities", () => new CapabilityTable(plugin.name, capabilities));
    this.clock = clock;
    this.#group = group;
    this.#siblings = siblings;
    if (guarded.tried("capabilities", () => capabilities.keepsTimeouts) === true) {
      this.#submit = (calls) => guarded.submit(calls);
    } else {
      this.#submit = (calls) => guarded.submit(copiedCalls(calls));
      this.#watch();
    }
    // The group may have failed on another device while this pipeline was being made.
    for (const { failure } of siblings) if (failure !== undefined) this.#fail(failure);
    guarded.whenFailed((reason) => this.#onBackendFailure(reason));
  }

  #watch(): void {
    const { rank, size, clock, plugin } = this;
    this.#limits ??= new OpLimits({
      group: this.#group,
      backend: plugin.name,
      rank,
      size,
      clock,
      onTimeout: (error) => this.#failAll(error),
    });
  }

  /**
   * Wraps middleware around the submit function; the first of the list is outermost.
   * @param limitMs How long the `create()` of each may take.
   */
  async wrap(
    middleware: readonly Middleware[],
    limitMs: number,
    surroundingsOf: (name: string) => MiddlewareHost,
  ): Promise<void> {
    if (middleware.length === 0) return;
    if (this.#limits === undefined) {
      this.#watch();
      this.#submit = (calls) => {
        const works = this.#guarded.submit(calls);
        this.#trusted = Array.isArray(works) ? [...works] : [];
        return works;
      };
    }
    const [{ CallBoundary, CallSnapshots }, { CallCheck }] = await loadGuards();
    const limit = { limitMs, clock: this.clock, details: { group: this.#group } };
    const { rank, size } = this;
    const snapshots = new CallSnapshots();
    const check = new CallCheck({ rank, size, device: this.device });
    for (const each of [...middleware].reverse()) {
      const { name } = each;
      const context = this.#contextOf(name, surroundingsOf(this.#ownNameOf(name)));
      const layer: unknown = await created(`middleware "${name}"`, limit, () => each.create(context));
      if (typeof layer !== "function") {
        throw new DistBackendError(
          `middleware "${name}": create() must return a function from one submit to another, got ${describe(layer)}`,
          { group: this.#group, code: "INVALID_MIDDLEWARE" },
        );
      }
      const boundary = new CallBoundary(name, this.#submit, this.device, check, snapshots);
      const submit = this.#layered(name, layer as (next: Submit) => unknown, boundary.next);
      if (typeof submit !== "function") {
        void watchReturned(submit, () => {});
        throw new DistBackendError(`middleware "${name}" must return a submit function, got ${describe(submit)}`, {
          group: this.#group,
          code: "INVALID_MIDDLEWARE",
        });
      }
      this.#submit = boundary.around(submit as Submit);
      this.#layers.push(name);
    }
    const outermost = this.#submit;
    this.#submit = (calls) => outermost(copiedCalls(calls));
  }

  #layered(name: string, layer: (next: Submit) => unknown, next: Submit): unknown {
    try {
      return layer(next);
    } catch (cause) {
      throw notMade(`middleware "${name}"`, "what create() returned", { group: this.#group }, cause);
    }
  }

  /** Middleware of the same name still gets separate keys and helper groups. */
  #ownNameOf(name: string): string {
    const before = this.#layers.filter((other) => other === name).length;
    return before === 0 ? name : `${name}#${before + 1}`;
  }

  #contextOf(name: string, { makeHelper, ...surroundings }: MiddlewareHost): GroupContext {
    return {
      ...surroundings,
      helperGroup: async () => {
        this.#requireNotEnded("helperGroup");
        const backend = await makeHelper();
        this.#helpers.push(backend);
        try {
          this.#requireNotEnded("helperGroup");
        } catch (error) {
          // The group ended while the helper was being made.
          await endBackend(backend, this.plugin.name, this.#group, "the group has ended");
          throw error;
        }
        return backend;
      },
      fail: (reason) => {
        this.#failAll(asError(reason, { opType: opTypeOf({ op: "refused", peer: -1 }) }));
      },
      onAbort: (listener) => {
        const reason = this.#endReason;
        if (reason === undefined) this.#abortListeners.push(listener);
        else this.#call(() => listener(reason, this.#isClosed));
      },
      onClose: (listener) => {
        // A listener that comes too late would otherwise never be called.
        if (this.#closing !== undefined) this.#call(listener);
        else this.#closeListeners.push({ name, listener });
      },
    };
  }

  #failAll(error: DistError): void {
    for (const each of new Set([this, ...this.#siblings])) each.#fail(error);
  }

  /** Refuses calls that come after the end: the backend may say why, but must not start them. */
  #refused(calls: readonly OpCall[]): readonly Work<void>[] {
    const works = this.#guarded.refuse(copiedCalls(calls));
    if (works !== undefined) return works;
    const { name: backend } = this.plugin;
    const details = { backend, group: this.#group, code: "ABORTED" };
    const cause = this.failure ?? this.#opFailure ?? new DistBackendError(this.#endReason ?? "it has ended", details);
    return calls.map((call) => {
      const opType = opTypeOf(call);
      // A turn that no longer matters.
      if (call.op === "refused") return Work.completed(undefined, { opType });
      return Work.rejected(this.#failedBefore(opType, cause), { opType });
    });
  }

  /** Submits calls; returns a Work for each, whatever goes wrong. */
  submit(calls: readonly OpCall[]): readonly Work<void>[] {
    const opTypes = calls.map(opTypeOf);
    try {
      if (this.#failure !== undefined) throw this.#failedBefore(opTypes[0], this.#failure);
      const works: unknown = this.#submit(calls);
      const own = areNewWorks(works, opTypes.length) ? works : this.#mended(opTypes, works);
      return this.#limits === undefined ? own : this.#watchAll(this.#limits, own, calls);
    } catch (error) {
      const failure = this.#submitFailure(opTypes[0], error);
      return opTypes.map((opType) => Work.rejected(failure, { opType }));
    }
  }

  /** {@link submit} of one call. */
  submitOne(call: OpCall): Work<void> {
    // A backend with its own time-outs gets the call itself, which the process group keeps using.
    const { op, peer, inputs, outputs } = call;
    if (this.#failure === undefined) {
      try {
        const calls = [call];
        const works: unknown = this.#submit(calls);
        const own = areNewWorks(works, 1) ? works : this.#mended([opTypeOf({ op, peer })], works);
        return (this.#limits === undefined ? own : this.#watchAll(this.#limits, own, calls))[0] as Work<void>;
      } catch (error) {
        const opType = opTypeOf({ op, peer });
        return Work.rejected(this.#submitFailure(opType, error), { opType });
      } finally {
        if (call.op !== op || call.peer !== peer || call.inputs !== inputs || call.outputs !== outputs) {
          Object.assign(call, { op, peer, inputs, outputs });
        }
      }
    }
    const opType = opTypeOf(call);
    return Work.rejected(this.#failedBefore(opType, this.#failure), { opType });
  }

  /**
   * Watches Works and returns them; those that ended with an error of another package are replaced.
   * @param calls The calls as submitted; the code that made the Works had copies of them.
   */
  #watchAll(limits: OpLimits, works: readonly Work<void>[], calls: readonly OpCall[]): readonly Work<void>[] {
    const trusted = this.#trusted;
    let seen = works;
    for (const [i, call] of calls.entries()) {
      const number = limits.numberOf(call);
      const work = works[i] as Work<void>;
      if (!hasEnded(work)) {
        // Middleware that passed on the backend's Work holds nothing.
        const isTrusted = work === trusted[i];
        if (!isTrusted && !this.#keepsLimit(work, opTypeOf(call))) limits.watch(work, call, number);
        continue;
      }
      const failure: Error | undefined = failureOf(work);
      if (failure === undefined || failure instanceof DistError) continue;
      const error = limits.errorOf(messageOf(failure), { cause: failure }, work, call, number);
      seen = seen.with(i, Work.rejected(error, { opType: opTypeOf(call) }));
    }
    return seen;
  }

  #keepsLimit(work: Work<void>, opType: OpType): boolean {
    try {
      return work.keepsLimit;
    } catch (error) {
      throw this.#invalidWork(opType, `keepsLimit of its Work failed: ${messageOf(error)}`, error);
    }
  }

  /** A user's backend or middleware may return Works of another copy of the package, or anything else. */
  #mended(opTypes: readonly OpType[], works: unknown): readonly Work<void>[] {
    const list: readonly unknown[] | undefined = Array.isArray(works) ? Array.from(works) : undefined;
    const fault = list === undefined ? describe(works) : faultOf(list, opTypes.length);
    const own = fault === undefined ? list?.map((each, i) => workOf(each, opTypes[i] as OpType)) : undefined;
    const other = own?.indexOf(undefined) ?? -1;
    if (own !== undefined && other < 0) return own as Work<void>[];
    // Their rejections would be unhandled and end the process.
    for (const each of list ?? [works]) if (!isWork(each)) void watchReturned(each, () => {});
    if (fault === undefined) {
      const text = `submit() returned ${describe(list?.[other])}, which is not a Work: Work.fromPromise() makes one from a promise`;
      throw this.#invalidWork(opTypes[other] as OpType, text);
    }
    throw new DistBackendError(`${this.#whose}: submit() must return one new Work for each call, got ${fault}`, {
      backend: this.plugin.name,
      group: this.#group,
      code: "INVALID_SUBMIT",
    });
  }

  /** What may have made a Work, for messages. */
  get #whose(): string {
    const names = this.#layers.map((name) => `"${name}"`).join(", ");
    return `backend "${this.plugin.name}"${names && ` or its middleware (${names})`}`;
  }

  #invalidWork(opType: OpType, fault: string, cause?: unknown): DistBackendError {
    const op = opNames[opType];
    return new DistBackendError(`${op}: ${this.#whose}: ${fault}`, {
      backend: this.plugin.name,
      group: this.#group,
      op,
      code: "INVALID_WORK",
      ...(cause !== undefined && { cause }),
    });
  }

  /** Wraps what was thrown in submitting calls; errors of other packages come from reading the returned Works. */
  #submitFailure(opType: OpType | undefined, error: unknown): DistError {
    const op = opType === undefined ? {} : { op: opNames[opType] };
    const where = `reading what submit() of ${this.#whose} returned${op.op === undefined ? "" : ` for ${op.op}`}`;
    return userCodeFailure(where, { group: this.#group, backend: this.plugin.name, ...op }, error);
  }

  #failedBefore(opType: OpType | undefined, cause: DistError): DistBackendError {
    const op = opType === undefined ? "op" : opNames[opType];
    return new DistBackendError(
      `${op}: group "${this.#group}" has failed before (${cause.message}). It takes no more ops: make a new group with newGroup()`,
      { backend: this.plugin.name, group: this.#group, op, rank: this.rank, code: "GROUP_FAILED", cause },
    );
  }

  get state(): GroupState {
    const state = this.#backendState();
    return state === "OPEN" && this.failure !== undefined ? "FAILED" : state;
  }

  /** A backend whose state cannot be read is not trusted any more. Never throws: the caller may be ending an op. */
  #backendState(): GroupState {
    try {
      return this.#guarded.state;
    } catch (thrown) {
      const error = thrown as DistError;
      if (this.#failure === undefined) {
        warn(error.message, error.code);
        this.#failAll(error);
      }
      return "FAILED";
    }
  }

  /** Number of ops in flight in the backend. */
  get inFlight(): number {
    return this.#guarded.inFlight;
  }

  /** Resolves when nothing is in flight in the backend. */
  drained(): Promise<void> {
    return this.#guarded.drained();
  }

  /** From now on, ops report how long they are in the native library. */
  enableTiming(): void {
    this.#guarded.enableTiming();
  }

  /** The error with which the group failed on this device, as reported to its other devices. */
  get failure(): DistError | undefined {
    return this.#failure ?? this.#backendFailure;
  }

  /** Fails the group on its other devices, too. On this one, the backend itself reports the error. */
  #onBackendFailure(reason: string): void {
    if (this.#isEnding) return;
    const { name } = this.plugin;
    const text = `group "${this.#group}": backend "${name}" has failed: ${reason}`;
    const error = new DistBackendError(text, { backend: name, group: this.#group, code: "GROUP_FAILED" });
    this.onFailing(reason, error);
    this.endHeld(reason);
    this.#backendFailure = error;
    for (const each of this.#siblings) if (each !== this) each.#fail(error);
  }

  #fail(error: DistError): void {
    if (this.#failure !== undefined) return;
    this.onFailing(error.message, error);
    this.#failure = error;
    try {
      this.abort(error.message);
    } catch (failure) {
      warn(messageOf(failure));
    }
  }

  /** Fails the ops in flight, including those that middleware holds. */
  abort(reason: string): void {
    this.#isEnding = true;
    try {
      this.#guarded.abort(reason);
    } finally {
      this.endHeld(reason);
      this.#limits?.endAll(reason, GRACE_MS);
      // A backend that has no states, or could not abort, must get no further ops.
      if (this.#backendState() === "OPEN") {
        const { name: backend } = this.plugin;
        this.#failure ??= new DistBackendError(reason, { backend, group: this.#group, code: "ABORTED" });
      }
    }
  }

  /**
   * Lets the middleware end the Works that it holds, once.
   * @param error The error of the op that caused this, if one did.
   */
  endHeld(reason: string, error?: DistError): void {
    if (this.#endReason !== undefined) return;
    this.#endReason = reason;
    this.#opFailure = error;
    // Middleware is notified of the end only once: what it held from now on would stay pending.
    this.#submit = (calls) => this.#refused(calls);
    this.#limits?.endAll(reason, FAILED_LIMIT_MS);
    for (const listener of this.#abortListeners) this.#call(() => listener(reason, this.#isClosed));
    for (const helper of this.#helpers) this.#call(() => abortHelper(helper, reason, this.#isClosed));
  }

  #requireNotEnded(what: string): void {
    if (this.#endReason === undefined) return;
    throw new DistBackendError(`${what}: group "${this.#group}" has ended: ${this.#endReason}`, {
      backend: this.plugin.name,
      group: this.#group,
      code: "GROUP_FAILED",
    });
  }

  #call(listener: () => unknown): void {
    const failed = (error: unknown) =>
      warn(`group "${this.#group}": a middleware failed when the group did: ${messageOf(error)}`);
    try {
      const returned = listener();
      void watchReturned(returned, failed);
    } catch (error) {
      failed(error);
    }
  }

  /**
   * Closes the backend, and what middleware has; each is abandoned with a `DistTimeoutError` when it takes too long.
   * Throws the first error; further ones become warnings.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#isEnding = true;
    const reason = "the group was closed while the op was in flight";
    this.#isClosed = this.#endReason === undefined;
    this.endHeld(reason);
    this.#limits?.endAll(reason, GRACE_MS);
    const { name: backend } = this.plugin;
    const closed = (what: string, close: () => unknown) => closeWithin({ group: this.#group, what, backend }, close);
    const ends = await Promise.allSettled([
      closed(`backend "${backend}"`, () => this.#guarded.close()),
      ...this.#closeListeners.map(({ name, listener }) => closed(`middleware "${name}"`, listener)),
      ...this.#helpers.map((helper) => closed(`a helper group of backend "${backend}"`, () => helper.close())),
    ]);
    const [first, ...others] = ends.flatMap((end) => (end.status === "rejected" ? [{ error: end.reason }] : []));
    for (const { error } of others)
      warn(`closing group "${this.#group}" failed in more than one place: ${messageOf(error)}`);
    if (first !== undefined) throw first.error;
  }
}

/** Ranks that cannot make a group ask each other for the reason, in several calls of the store. */
const CREATION_GRACE_MS = 3_000;

/**
 * Calls a `create()` of user code within a time limit. What it throws is wrapped unless it is an error of this package.
 * @param dispose Disposes of a result that comes too late.
 */
export async function created<T>(
  what: string,
  limit: SettleLimit,
  create: () => T | Promise<T>,
  dispose?: (late: T) => unknown,
): Promise<T> {
  try {
    return await settledWithin(`create() of ${what}`, create, { graceMs: CREATION_GRACE_MS, ...limit }, dispose);
  } catch (cause) {
    throw notMade(what, "create()", limit.details ?? {}, cause);
  }
}

function notMade(what: string, method: string, { group = "", backend }: ErrorDetails, cause: unknown): DistError {
  if (cause instanceof DistError) return cause;
  const text = `${what} could not be made for group "${group}": ${method} threw ${messageOf(cause)}`;
  return new DistBackendError(text, {
    group,
    ...(backend !== undefined && { backend }),
    code: "CREATE_FAILED",
    cause,
  });
}

/** Whether this is a list of as many Works as there are calls, none of which stands for another call. */
function areNewWorks(works: unknown, count: number): works is readonly Work<void>[] {
  if (!Array.isArray(works) || works.length !== count) return false;
  // Not every(), which skips holes.
  for (let i = 0; i < count; i++) if (!isWork(works[i]) || isTaken(works[i])) return false;
  return count < 2 || new Set(works).size === count;
}

/** What is wrong with a list that should be one of new Works, which may still be foreign; `undefined` if nothing is. */
function faultOf(works: readonly unknown[], count: number): string | undefined {
  if (works.length !== count) return `${works.length} for ${count} ${count === 1 ? "call" : "calls"}`;
  const other = works.findIndex((work) => !isWork(work) && !isThenable(work));
  if (other >= 0) return `${describe(works[other])} for call ${other}`;
  const taken = works.findIndex((work, i) => works.indexOf(work) < i || (isWork(work) && isTaken(work)));
  return taken < 0 ? undefined : `a Work for call ${taken} that stands for another call`;
}

function isThenable(value: unknown): boolean {
  return typeof value === "object" && value !== null && "then" in value;
}
