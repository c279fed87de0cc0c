import type { OpCall } from "../../collectives/op-call.ts";
import { callUserCode } from "../../errors/index.ts";
import type { GroupState, Work } from "../../work/index.ts";
import type { BackendContext } from "./backend-plugin.ts";
import type { Capabilities } from "./capabilities.ts";
import type { MemoryServices } from "./memory-services.ts";

/** How the process group and middleware submit calls: see {@link Backend.submit}. */
export type Submit = (calls: readonly OpCall[]) => readonly Work<void>[];

/** Where a split of a group is among its ops. Disposed of when the split is over, or will not be. */
export interface SplitPlace extends Disposable {
  /**
   * Makes the backend of the new group, whose context is given. The ranks with the same `color` become one group; a rank
   * with a negative one is in none: it takes part, and closes what it gets.
   */
  split(context: BackendContext, color: number): Promise<Backend>;
}

/**
 * One rank's membership in a group of ranks on one device. Authors implement `submit`, or extend {@link MethodBackend}
 * to write a method for each op.
 *
 * c10d: `Backend`.
 */
export abstract class Backend {
  /** Name of the plugin that made it. */
  abstract readonly name: string;
  /** Rank in the group. */
  readonly rank: number;
  /** Number of ranks in the group. */
  readonly size: number;
  /** Why it has failed, once it has announced that. */
  #failure: string | undefined;
  readonly #failureListeners: ((reason: string) => void)[] = [];

  constructor(rank: number, size: number) {
    this.rank = rank;
    this.size = size;
  }

  /** What this instance can do: what its plugin claims, or less. */
  abstract readonly capabilities: Capabilities;

  /**
   * Starts calls, several as one batch. Never throws: it returns exactly one new Work for each call, in their order,
   * and a rejected Work for a call that cannot be carried out. If one call of a batch is refused, all are, and nothing
   * is sent.
   *
   * Arguments have been checked and are within {@link capabilities}; ranks are ranks in the group. A call of the op
   * `refused` stands for a collective that the process group refused: a backend that compares the calls of the ranks
   * counts it among them, others end it at once.
   */
  abstract submit(calls: readonly OpCall[]): readonly Work<void>[];

  /** OPEN until an op fails fatally. */
  get state(): GroupState {
    return "OPEN";
  }

  /**
   * Calls `listener` once the backend has announced its failure with {@link announceFailure}; at once if it already
   * has. For the process group, which then ends the Works that middleware holds.
   */
  whenFailed(listener: (reason: string) => void): void {
    const reason = this.#failure;
    if (reason === undefined) this.#failureListeners.push(listener);
    else callUserCode(() => listener(reason));
  }

  /**
   * To be called when {@link state} has become FAILED and ops in flight have ended: a connection may be lost while no
   * op is in flight. Only the first call counts. `MethodBackend` calls it itself.
   */
  protected announceFailure(reason: string): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    for (const listener of this.#failureListeners.splice(0)) callUserCode(() => listener(reason));
  }

  /**
   * Returns rejected Works for calls to a group that has failed or is closed. By default undefined: then the process
   * group rejects them with `GROUP_FAILED` and the cause of the failure, and the backend does not see them. For a
   * backend that can say more, such as which ranks are at fault. Never throws.
   */
  refuse(calls: readonly OpCall[]): readonly Work<void>[] | undefined {
    void calls;
    return undefined;
  }

  /**
   * Optional service: the library's own split, which makes the backend of a group of some ranks of this one, quicker than
   * `create()` of the plugin and sharing its resources. Takes the place of a split among the ops: those that are submitted
   * later wait until the place is disposed of. All ranks of this group do this at the same place. Used for groups that are
   * bound to a device.
   */
  placeSplit?(): SplitPlace;

  /** Optional services for the memory of tensors; `undefined` if there are none. */
  get memoryServices(): MemoryServices | undefined {
    return undefined;
  }

  /** Makes `WorkInfo.activeDuration` of later ops the time that they spend in the native library, if there is one. */
  enableTiming(): void {}

  /** Number of ops in flight. */
  get inFlight(): number {
    return 0;
  }

  /** Fails the group and all ops in flight; every waiter wakes at once. */
  abort(reason: string): void {
    void reason;
  }

  /** Resolves when no op is in flight. */
  drained(): Promise<void> {
    return Promise.resolve();
  }

  /** Releases everything. Ops in flight are aborted; never waits for other ranks. */
  close(): Promise<void> {
    return Promise.resolve();
  }
}
