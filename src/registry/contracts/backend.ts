import type { OpCall } from "../../collectives/op-call.ts";
import { callUserCode } from "../../errors/index.ts";
import type { GroupState, Work } from "../../work/index.ts";
import type { Capabilities } from "./capabilities.ts";

/** What is submitted, by the process group and by middleware: see {@link Backend.submit}. */
export type Submit = (calls: readonly OpCall[]) => readonly Work<void>[];

/**
 * One rank's membership in a group of ranks on one device. What an author writes is `submit`; who prefers a method for each
 * op extends {@link MethodBackend}.
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
  /** Why it has failed, once it has said so. */
  #failure: string | undefined;
  readonly #failureListeners: ((reason: string) => void)[] = [];

  constructor(rank: number, size: number) {
    this.rank = rank;
    this.size = size;
  }

  /** What this instance can do: what its plugin claims, or less. */
  abstract readonly capabilities: Capabilities;

  /**
   * Starts calls, several as one batch. Never throws: it returns exactly one new Work for each call, in their order, and one
   * that cannot be carried out is a Work that has been rejected. If one call of a batch is refused, all are, and nothing is sent.
   *
   * Arguments have been checked and are among {@link capabilities}; ranks are ranks in the group. A call of the op `refused`
   * is a collective that the process group has refused, of which the backend sees nothing: one that compares the calls of
   * the ranks counts it among them, others end it at once.
   */
  abstract submit(calls: readonly OpCall[]): readonly Work<void>[];

  /** OPEN until an op fails fatally. */
  get state(): GroupState {
    return "OPEN";
  }

  /**
   * Calls `listener` once the backend has said by {@link announceFailure} that it has failed; at once if it has. For the process
   * group, which then ends what middleware holds.
   */
  whenFailed(listener: (reason: string) => void): void {
    const reason = this.#failure;
    if (reason === undefined) this.#failureListeners.push(listener);
    else callUserCode(() => listener(reason));
  }

  /**
   * To be called when {@link state} has become FAILED and what was in flight has ended: a connection may be lost while no op is in
   * flight. The first call counts. `MethodBackend` does it by itself.
   */
  protected announceFailure(reason: string): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    for (const listener of this.#failureListeners.splice(0)) callUserCode(() => listener(reason));
  }

  /**
   * The Works, all rejected, of calls that come when the group has failed or is closed. By default undefined: then the process group
   * rejects them with `GROUP_FAILED` and what it has failed with, and the backend does not see them. For a backend that can say more,
   * such as which ranks are at fault. Never throws.
   */
  refuse(calls: readonly OpCall[]): readonly Work<void>[] | undefined {
    void calls;
    return undefined;
  }

  /** Makes `WorkInfo.activeDuration` of ops from now on the time that they are in the native library, where there is one. */
  enableTiming(): void {}

  /** Number of ops in flight. */
  get inFlight(): number {
    return 0;
  }

  /** Fails what is in flight and the group with it; every waiter wakes at once. */
  abort(reason: string): void {
    void reason;
  }

  /** Resolves when nothing is in flight. */
  drained(): Promise<void> {
    return Promise.resolve();
  }

  /** Releases everything. Ops in flight are aborted; never waits for other ranks. */
  close(): Promise<void> {
    return Promise.resolve();
  }
}
