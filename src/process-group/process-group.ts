import {
  isTensorList,
  OpType,
  type ReduceOp,
  requireReduceOp,
  requireTensor,
  requireTensors,
  requireTimeout,
} from "../collectives/index.ts";
import { type DistError, DistTimeoutError, InvalidArgumentError, type Timeout } from "../errors/index.ts";
import { type Backend, type BackendPlugin, type BackendType, CapabilityTable, type OpName } from "../registry/index.ts";
import type { DeviceType, TensorLike } from "../tensor/index.ts";
import { type FailedWork, type GroupState, Work, type WorkOwner, warnIfUnobserved } from "../work/index.ts";

/** What every op takes. */
export interface CallOptions {
  /** Limit of the op; the group's by default. When it runs out the op fails, and the group with it. */
  readonly timeout?: Timeout;
}

export interface AllReduceOptions extends CallOptions {
  /** SUM by default. */
  readonly op?: ReduceOp;
}

export interface BroadcastOptions extends CallOptions {
  /** Global rank of the root. Exactly one of `src` and `groupSrc` is given. */
  readonly src?: number;
  /** Rank of the root in the group. */
  readonly groupSrc?: number;
}

export type BarrierOptions = CallOptions;

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
  readonly onClose?: (group: ProcessGroup) => Promise<void>;
}

/** Errors that are kept for `destroyProcessGroup()`. */
const MAX_KEPT_FAILURES = 100;

/**
 * A group of ranks. Ops go to the backend of their tensors' device; all ranks issue the collectives of one group in the
 * same order.
 *
 * `await using` a group aborts what is in flight at the end of the block and closes it within a second;
 * `destroyProcessGroup()` waits for it instead.
 *
 * c10d: `ProcessGroup`.
 */
export class ProcessGroup implements AsyncDisposable, WorkOwner {
  readonly name: string;
  readonly description: string;
  /** Rank in this group. */
  readonly rank: number;
  /** Global rank of each rank of this group. */
  readonly globalRanks: readonly number[];
  /** Default limit of ops, in milliseconds. */
  readonly timeoutMs: number;
  readonly #backends: ReadonlyMap<DeviceType, DeviceBackend>;
  readonly #tables = new Map<DeviceType, CapabilityTable>();
  readonly #onClose: ((group: ProcessGroup) => Promise<void>) | undefined;
  #failures: FailedWork[] = [];
  #warningDue = false;
  #closing: Promise<void> | undefined;

  constructor(init: ProcessGroupInit) {
    this.name = init.name;
    this.description = init.description;
    this.rank = init.rank;
    this.globalRanks = init.globalRanks;
    this.timeoutMs = init.timeoutMs;
    this.#backends = init.backends;
    this.#onClose = init.onClose;
    for (const [device, { plugin }] of init.backends) {
      this.#tables.set(device, new CapabilityTable(plugin.name, plugin.capabilities));
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
  backendName(device: DeviceType = this.#defaultDevice()): string {
    return this.#on(device).plugin.name;
  }

  backendType(device: DeviceType = this.#defaultDevice()): BackendType {
    return this.#on(device).plugin.type;
  }

  /** The backend of a device type. */
  backend(device: DeviceType = this.#defaultDevice()): Backend {
    return this.#on(device).backend;
  }

  /** Device types that have a backend. */
  get deviceTypes(): DeviceType[] {
    return [...this.#backends.keys()];
  }

  /**
   * Reduces a tensor over all ranks, in place on all of them; a list of tensors of one dtype is reduced as one op.
   *
   * @param tensors Same shapes and dtypes on all ranks.
   * @returns Work of the tensor or tensors. It rejects with InvalidArgumentError (nothing was sent),
   *   UnsupportedOperationError, DistTimeoutError or DistNetworkError.
   *
   * c10d: `all_reduce`, `all_reduce_coalesced`.
   */
  allReduce<T extends TensorLike | readonly TensorLike[]>(tensors: T, options: AllReduceOptions = {}): Work<T> {
    const opType = isTensorList(tensors) ? OpType.ALLREDUCE_COALESCED : OpType.ALLREDUCE;
    return this.#run<T>(opType, () => {
      const op = requireReduceOp("allReduce", options.op);
      const timeoutMs = requireTimeout("allReduce", options.timeout, this.timeoutMs);
      if (isTensorList(tensors)) {
        const views = requireTensors("allReduce", tensors);
        const [first] = views;
        if (first === undefined) throw new InvalidArgumentError("allReduce: no tensors");
        const backend = this.#backendFor("allReduceCoalesced", first.device.type);
        this.#tables.get(first.device.type)?.require("allReduceCoalesced", first.dtype, op);
        return backend.allReduceCoalesced(views, { op, timeoutMs, owner: this });
      }
      const view = requireTensor("allReduce", tensors);
      const backend = this.#backendFor("allReduce", view.device.type);
      this.#tables.get(view.device.type)?.require("allReduce", view.dtype, op);
      return backend.allReduce(view, { op, timeoutMs, owner: this });
    });
  }

  /**
   * Copies the root's tensor to all ranks.
   *
   * @param tensor Same shape and dtype on all ranks.
   * @param options `src` (global rank) or `groupSrc` (rank in this group) names the root.
   *
   * c10d: `broadcast`.
   */
  broadcast<T extends TensorLike>(tensor: T, options: BroadcastOptions): Work<T> {
    return this.#run<T>(OpType.BROADCAST, () => {
      const root = this.#groupRank("broadcast", "src", options.src, options.groupSrc);
      const timeoutMs = requireTimeout("broadcast", options.timeout, this.timeoutMs);
      const view = requireTensor("broadcast", tensor);
      const backend = this.#backendFor("broadcast", view.device.type);
      this.#tables.get(view.device.type)?.require("broadcast", view.dtype);
      return backend.broadcast(view, { root, timeoutMs, owner: this });
    });
  }

  /** Completes when all ranks have come to it. c10d: `barrier`. */
  barrier(options: BarrierOptions = {}): Work<void> {
    return this.#run<void>(OpType.BARRIER, () => {
      const timeoutMs = requireTimeout("barrier", options.timeout, this.timeoutMs);
      const device = this.#defaultDevice();
      const backend = this.#backendFor("barrier", device);
      this.#tables.get(device)?.require("barrier");
      return backend.barrier({ timeoutMs, owner: this });
    });
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

  /** Hears of failed ops. */
  onFailure(work: FailedWork): void {
    if (this.#failures.length >= MAX_KEPT_FAILURES) this.#failures = this.#failures.filter((kept) => !kept.observed);
    if (this.#failures.length < MAX_KEPT_FAILURES) this.#failures.push(work);
    if (this.#warningDue) return;
    this.#warningDue = true;
    setImmediate(() => {
      this.#warningDue = false;
      const unobserved = this.#failures.find((kept) => !kept.observed);
      if (unobserved !== undefined) warnIfUnobserved(unobserved);
    });
  }

  /** Fails what is in flight, and the group with it. */
  abort(reason = "the group was aborted"): void {
    for (const { backend } of this.#backends.values()) backend.abort(reason);
  }

  /**
   * Waits for what is in flight, closes the group, and throws the first error that nobody has looked at.
   * @param limitMs Limit of the waiting, after which the rest is aborted.
   */
  async drain(limitMs: number): Promise<void> {
    const backends = [...this.#backends.values()].map(({ backend }) => backend);
    const inFlight = backends.reduce((sum, backend) => sum + backend.inFlight, 0);
    let late: DistError | undefined;
    if (inFlight > 0 && !(await endsWithin(Promise.all(backends.map((backend) => backend.drained())), limitMs))) {
      late = new DistTimeoutError(
        `destroyProcessGroup: group "${this.name}" still had ops in flight after ${limitMs} ms; they were aborted`,
        { code: "DRAIN_TIMEOUT", group: this.name, timeoutMs: limitMs },
      );
    }
    const unseen = this.#failures.find((work) => !work.observed)?.exception();
    await this.close();
    const error = unseen ?? late;
    if (error !== undefined) throw error;
  }

  /** Aborts what is in flight and closes the group within about a second. Does nothing the second time. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await Promise.all([...this.#backends.values()].map(({ backend }) => backend.close()));
    await this.#onClose?.(this);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Runs an op; whatever is wrong with it becomes a rejected Work, never an exception. */
  #run<T>(opType: OpType, start: () => Work<unknown>): Work<T> {
    try {
      // The backend resolves to the caller's own objects, which are of type T.
      return start() as Work<T>;
    } catch (error) {
      return Work.rejected(error, { opType, owner: this });
    }
  }

  #groupRank(op: string, argument: "src" | "dst", global: number | undefined, inGroup: number | undefined): number {
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
      `${op}: invalid root: ${given} is not in group "${this.name}", whose global ranks are ${this.globalRanks.join(", ")}`,
      { op, argument, group: this.name },
    );
  }

  #backendFor(op: OpName, device: DeviceType): Backend {
    const found = this.#backends.get(device);
    if (found !== undefined) return found.backend;
    throw new InvalidArgumentError(
      `${op}: group "${this.name}" has no backend for ${device} tensors (it has ${this.deviceTypes.join(", ")})`,
      { op, group: this.name },
    );
  }

  #on(device: DeviceType): DeviceBackend {
    const found = this.#backends.get(device);
    if (found !== undefined) return found;
    throw new InvalidArgumentError(`group "${this.name}" has no backend for ${device} tensors`, { group: this.name });
  }

  #defaultDevice(): DeviceType {
    return this.#backends.has("cpu") ? "cpu" : (this.deviceTypes[0] ?? "cpu");
  }

  toString(): string {
    return `<ProcessGroup "${this.name}" rank ${this.rank}/${this.size} ${this.state}>`;
  }
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
