import { isMessage, type OpType, opNames, type ReduceOp } from "../collectives/index.ts";
import {
  DistBackendError,
  DistError,
  DistTimeoutError,
  InvalidArgumentError,
  messageOf,
  UnsupportedOperationError,
  warn,
} from "../errors/index.ts";
import { type Backend, type BackendPlugin, type BackendType, CapabilityTable, type OpName } from "../registry/index.ts";
import type { DeviceType, DType } from "../tensor/index.ts";
import { type FailedWork, FailureWarnings, failureOf, type GroupState, Work, type WorkOwner } from "../work/index.ts";

/** The backend of one kind of device. */
export interface DeviceBackend {
  readonly plugin: BackendPlugin;
  readonly backend: Backend;
}

export interface ProcessGroupInit {
  readonly name: string;
  readonly description: string;
  readonly rank: number;
  readonly globalRanks: readonly number[];
  readonly timeoutMs: number;
  readonly backends: ReadonlyMap<DeviceType, DeviceBackend>;
  /** Called once, when the group has been closed. */
  readonly onClose?: () => Promise<void>;
}

interface CapableBackend extends DeviceBackend {
  readonly table: CapabilityTable;
}

/** Errors that are kept for `destroyProcessGroup()`. */
const MAX_KEPT_FAILURES = 100;

/** What a backend may take to close, in milliseconds; the contract asks for one second. */
const CLOSE_LIMIT_MS = 10_000;

/** What a process group is apart from its ops: members, backends, failures, the end. */
export abstract class GroupLifecycle implements AsyncDisposable, WorkOwner {
  readonly name: string;
  readonly description: string;
  /** Rank in this group. */
  readonly rank: number;
  /** Global rank of each rank of this group. */
  readonly globalRanks: readonly number[];
  /** Default limit of ops, in milliseconds. */
  readonly timeoutMs: number;
  readonly #backends = new Map<DeviceType, CapableBackend>();
  readonly #onClose: (() => Promise<void>) | undefined;
  #failures: FailedWork[] = [];
  readonly #warnings = new FailureWarnings();
  #closing: Promise<void> | undefined;

  constructor(init: ProcessGroupInit) {
    this.name = init.name;
    this.description = init.description;
    this.rank = init.rank;
    this.globalRanks = init.globalRanks;
    this.timeoutMs = init.timeoutMs;
    this.#onClose = init.onClose;
    for (const [device, { plugin, backend }] of init.backends) {
      const table = new CapabilityTable(plugin.name, plugin.capabilities);
      this.#backends.set(device, { plugin, backend, table });
    }
  }

  /** Number of ranks. */
  get size(): number {
    return this.globalRanks.length;
  }

  /** OPEN while all its backends are. */
  get state(): GroupState {
    if (this.#closing) return "CLOSED";
    for (const { backend } of this.#backends.values()) if (backend.state !== "OPEN") return backend.state;
    return "OPEN";
  }

  /** Name of the backend of a device type, e.g. `gloo`. */
  backendName(device: DeviceType = this.defaultDevice()): string {
    return this.#on(device).plugin.name;
  }

  backendType(device: DeviceType = this.defaultDevice()): BackendType {
    return this.#on(device).plugin.type;
  }

  /** The backend of a device type. */
  backend(device: DeviceType = this.defaultDevice()): Backend {
    return this.#on(device).backend;
  }

  /** The plugin that made the backend of a device type. */
  plugin(device: DeviceType = this.defaultDevice()): BackendPlugin {
    return this.#on(device).plugin;
  }

  /** Device types that have a backend. */
  get deviceTypes(): DeviceType[] {
    return [...this.#backends.keys()];
  }

  /** Rank in this group of a global rank. Throws InvalidArgumentError for ranks that are not in it. */
  groupRankOf(globalRank: number): number {
    const rank = this.globalRanks.indexOf(globalRank);
    if (rank >= 0) return rank;
    throw new InvalidArgumentError(`global rank ${globalRank} is not part of group "${this.name}"`, {
      group: this.name,
      argument: "rank",
    });
  }

  /** Notes a failed op. */
  onFailure(work: FailedWork): void {
    if (this.#failures.length >= MAX_KEPT_FAILURES) {
      const seen = this.#failures.filter((kept) => kept.observed && isOfGroup(kept)).slice(0, 1);
      this.#failures = [...seen, ...this.#failures.filter((kept) => !kept.observed)];
    }
    if (this.#failures.length < MAX_KEPT_FAILURES) this.#failures.push(work);
    const { state } = this;
    this.#warnings.add(work, state !== "OPEN" && isOfGroup(work) ? state : messageOf(failureOf(work)));
  }

  /** Whether the group has failed, and somebody has looked at an error of its ops that says so. */
  get failureSeen(): boolean {
    return this.state === "FAILED" && this.#failures.some((work) => work.observed && isOfGroup(work));
  }

  /** Fails what is in flight, and the group with it. */
  abort(reason = "the group was aborted"): void {
    abortAll(
      [...this.#backends.values()].map(({ backend }) => backend),
      reason,
    );
  }

  /**
   * Waits for what is in flight, closes the group, and throws the first error that nobody has looked at.
   * @param limitMs Limit of the waiting, after which the rest is aborted.
   */
  async drain(limitMs: number): Promise<void> {
    const backends = [...this.#backends.values()].map(({ backend }) => backend);
    const steps = this.stepsUnderWay();
    const idle = async () => {
      await steps;
      throwFirst(await Promise.allSettled(backends.map(async (backend) => backend.drained())));
    };
    // Async, since a user's backend may throw in any of its methods, and the group has to be closed anyway.
    const drained = async () => {
      const busy = steps !== undefined || backends.some((backend) => backend.inFlight > 0);
      if (!busy || (await endsWithin(idle(), limitMs))) return;
      throw new DistTimeoutError(
        `destroyProcessGroup: group "${this.name}" still had ops in flight after ${limitMs} ms; they were aborted`,
        { code: "DRAIN_TIMEOUT", group: this.name, timeoutMs: limitMs },
      );
    };
    const [late] = await Promise.allSettled([drained()]);
    const unseen = this.#failures.find((work) => !work.observed)?.exception();
    const further = this.#failures.filter((work) => !work.observed).length;
    const [closed] = await Promise.allSettled([this.close()]);
    if (further > 0)
      warn(`group "${this.name}" had further failed ops that nobody looked at: at least ${further}`, unseen?.code);
    if (unseen !== undefined) throw unseen;
    throwFirst([late, closed]);
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
    const backends = [...this.#backends.values()].map(async ({ backend }) => {
      if (await endsWithin(backend.close(), CLOSE_LIMIT_MS)) return;
      throw new DistTimeoutError(
        `group "${this.name}": backend "${backend.name}" had not closed after ${CLOSE_LIMIT_MS} ms; the group is given up`,
        { code: "CLOSE_TIMEOUT", group: this.name, backend: backend.name, timeoutMs: CLOSE_LIMIT_MS },
      );
    });
    const ends = await Promise.allSettled(backends);
    // A backend that fails to close must not keep the rank in a world that is gone.
    throwFirst([...ends, ...(await Promise.allSettled([this.#onClose?.()]))]);
  }

  /**
   * {@link close}, for `await using`. It never rejects, since its error would hide that of a block that threw: what goes
   * wrong in closing is a process warning (`DistWarning`) with its code.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close().catch((error: unknown) => {
      const code = error instanceof DistError ? error.code : undefined;
      warn(`closing group "${this.name}" at the end of its block failed: ${messageOf(error)}`, code);
    });
  }

  /** Runs an op; whatever is wrong with it becomes a rejected Work, never an exception. */
  protected run<T>(opType: OpType, start: () => Work<unknown>): Work<T> {
    try {
      if (this.#closing !== undefined) throw this.closedError(opNames[opType]);
      // The backend resolves to the caller's own objects, which are of type T.
      return start() as Work<T>;
    } catch (error) {
      this.onRefusal(opType);
      return Work.rejected(error, { opType, owner: this });
    }
  }

  /** A call was refused before a backend has seen it. A collective takes its turn all the same. */
  protected onRefusal(opType: OpType): void {
    if (!isMessage(opType)) this.skipTurn();
  }

  /** Lets the backends know of a collective that was refused. */
  protected skipTurn(): void {
    for (const { backend } of this.#backends.values()) {
      try {
        backend.skipTurn();
      } catch (error) {
        warn(`group "${this.name}": skipTurn() of backend "${backend.name}" failed: ${messageOf(error)}`);
      }
    }
  }

  /** Settles when ops that are made of several steps have submitted the last one; undefined if there are none. */
  protected stepsUnderWay(): Promise<unknown> | undefined {
    return undefined;
  }

  protected closedError(op: string): DistBackendError {
    return new DistBackendError(
      `${op}: group "${this.name}" is closed; make a new one with initProcessGroup() or newGroup()`,
      { code: "GROUP_CLOSED", group: this.name, op, rank: this.rank },
    );
  }

  /** Rank in this group of the rank that an option pair such as `src` and `groupSrc` names. */
  protected toGroupRank(
    op: string,
    argument: "src" | "dst",
    global: number | undefined,
    inGroup: number | undefined,
  ): number {
    if ((global === undefined) === (inGroup === undefined)) {
      const group = argument === "src" ? "groupSrc" : "groupDst";
      throw new InvalidArgumentError(`${op}: give exactly one of ${argument} (global rank) and ${group}`, {
        op,
        argument,
      });
    }
    const rank = inGroup ?? this.globalRanks.indexOf(global ?? -1);
    if (Number.isInteger(rank) && rank >= 0 && rank < this.size) return rank;
    const given = inGroup === undefined ? `global rank ${global}` : `group rank ${inGroup}`;
    throw new InvalidArgumentError(
      `${op}: ${given} is not in group "${this.name}", whose global ranks are ${this.globalRanks.join(", ")}`,
      { op, argument, group: this.name },
    );
  }

  /** The backend for an op, once its table says that it can do it. */
  protected backendFor(op: OpName, device: DeviceType, dtype?: DType, reduceOp?: ReduceOp): Backend {
    const found = this.#backends.get(device);
    if (found !== undefined) {
      found.table.require(op, dtype, reduceOp);
      return found.backend;
    }
    throw new InvalidArgumentError(
      `${op}: group "${this.name}" has no backend for ${device} tensors (it has ${this.deviceTypes.join(", ")})`,
      { op, group: this.name },
    );
  }

  /** Whether the backend of a device implements an op. */
  protected canDo(op: OpName, device: DeviceType, dtype: DType, reduceOp?: ReduceOp): boolean {
    return this.#on(device).table.has(op, dtype, reduceOp);
  }

  /** Throws UnsupportedOperationError unless the backend of a device can receive from any rank. */
  protected requireAnySource(device: DeviceType): void {
    this.#on(device).table.requireAnySource();
  }

  #on(device: DeviceType): CapableBackend {
    const found = this.#backends.get(device);
    if (found !== undefined) return found;
    throw new InvalidArgumentError(`group "${this.name}" has no backend for ${device} tensors`, { group: this.name });
  }

  protected defaultDevice(): DeviceType {
    return this.#backends.has("cpu") ? "cpu" : (this.deviceTypes[0] ?? "cpu");
  }

  toString(): string {
    return `<ProcessGroup "${this.name}" rank ${this.rank}/${this.size} ${this.state}>`;
  }
}

/** Whether an op failed with its group, rather than because of its arguments. */
function isOfGroup(work: FailedWork): boolean {
  const error = failureOf(work);
  return !(error instanceof InvalidArgumentError || error instanceof UnsupportedOperationError);
}

/** Aborts all of several backends, and then throws the first error of one that could not. */
export function abortAll(backends: readonly Backend[], reason: string): void {
  const errors: unknown[] = [];
  for (const backend of backends) {
    try {
      backend.abort(reason);
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) throw errors[0];
}

/** Throws the first reason of those that have failed. */
export function throwFirst(ends: readonly PromiseSettledResult<unknown>[]): void {
  for (const end of ends) if (end.status === "rejected") throw end.reason;
}

async function endsWithin(promise: Promise<unknown>, limitMs: number): Promise<boolean> {
  if (limitMs === Number.POSITIVE_INFINITY) {
    await promise;
    return true;
  }
  const { promise: limit, resolve } = Promise.withResolvers<false>();
  const timer = setTimeout(resolve, Math.min(limitMs, 2 ** 31 - 1), false);
  try {
    return await Promise.race([promise.then(() => true), limit]);
  } finally {
    clearTimeout(timer);
  }
}
