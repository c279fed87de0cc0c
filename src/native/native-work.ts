import { opNames } from "../collectives/op-table.ts";
import { InvalidArgumentError } from "../errors/index.ts";
import { currentStreamOf, type Device, type Hold, isWhole, releaseHolds, type TensorView } from "../tensor/index.ts";
import { type LibraryTimes, Work, type WorkInit } from "../work/index.ts";
import type { NativeFailure } from "./native-failure.ts";
import type { NativeGroup } from "./native-group.ts";
import type { OpTensors } from "./op-records.ts";
import type { StagedMemory } from "./staging-area.ts";

export interface NativeWorkInit extends WorkInit {
  /** Id in the native group. */
  readonly id: number;
  /** The call or its tensors, which are kept alive until the op has ended. */
  readonly tensors: OpTensors;
  /** Those of them that native code uses in place and that can be detached: they are monitored. */
  readonly exposed?: TensorView | readonly TensorView[] | undefined;
  /** What native code works on instead of the tensors. */
  readonly staged?: StagedMemory | undefined;
  /** Whether native code reports how long the op took. */
  readonly isTimed?: boolean;
  /** For a device with streams: it, and handle of the stream of the op. */
  readonly stream?: { readonly device: Device; readonly handle: number } | undefined;
  /** What keeps the memory of foreign tensors until native code no longer uses it. */
  readonly holds?: readonly Hold[] | undefined;
}

/** How long {@link NativeWork.synchronize} waits for an op to start. */
const SYNCHRONIZE_LIMIT_MS = 30 * 60_000;

/** Work of an op in a shim. */
export class NativeWork extends Work<void> {
  readonly id: number;
  /** How the op failed, as soon as that is known. */
  failure: NativeFailure | undefined;
  /** Whether its memory was detached while native code was using it. */
  isDetached = false;
  /** Index among the exposed Works of its group. */
  exposedAt = -1;
  readonly #group: NativeGroup;
  /** Kept alive as long as native code may use them. */
  tensors: OpTensors | undefined;
  readonly #exposed: NativeWorkInit["exposed"];
  #staged: StagedMemory | undefined;
  readonly #stream: NativeWorkInit["stream"];
  #holds: readonly Hold[] | undefined;
  /** Whether native code reports how long the op took. */
  readonly isTimed: boolean;
  #times: LibraryTimes | undefined;

  constructor(group: NativeGroup, init: NativeWorkInit) {
    super(init);
    this.#group = group;
    this.id = init.id;
    this.tensors = init.tensors;
    this.#exposed = init.exposed;
    this.#staged = init.staged;
    this.#stream = init.stream;
    this.#holds = init.holds;
    this.isTimed = init.isTimed ?? false;
  }

  /** Name and number, for messages. */
  get title(): string {
    return this.describe();
  }

  /** Whether native code uses memory that could be detached. */
  get isExposed(): boolean {
    return this.#exposed !== undefined;
  }

  /** Whether that memory has not been detached. */
  get isIntact(): boolean {
    return this.#exposed === undefined || areWhole(this.#exposed);
  }

  /**
   * Sets when the library received the op and when it finished, in nanoseconds of `CLOCK_MONOTONIC`; 0 if it never
   * received it. An end before the beginning is ignored.
   * @param originMs Time 0 of that clock, by `performance.now()`.
   */
  setTimes(startedNs: number, finishedNs: number, originMs: number): void {
    if (finishedNs === 0 || finishedNs < startedNs) return;
    const finishedMs = originMs + finishedNs / 1e6;
    this.#times = { startedMs: startedNs === 0 ? finishedMs : originMs + startedNs / 1e6, finishedMs };
  }

  override get libraryTimes(): LibraryTimes | undefined {
    return this.#times;
  }

  override get hasStarted(): boolean {
    return this.#group.hasStarted(this);
  }

  override startNow(): void {
    this.#group.startNow();
  }

  /** Native code enforces it. */
  override get keepsLimit(): boolean {
    return true;
  }

  override get hasStream(): boolean {
    return this.#stream !== undefined;
  }

  /** @throws the error of the op if it has failed; a time-out if it does not start within its limit. */
  override synchronize(): void {
    // Native code does not keep a failure that was taken from it.
    const error = this.isCompleted() ? this.exception() : undefined;
    if (error !== undefined) throw error;
    if (this.#stream === undefined) return;
    const { device, handle } = this.#stream;
    this.#group.synchronize(this, currentStreamOf(device)?.handle ?? handle, SYNCHRONIZE_LIMIT_MS);
  }

  /**
   * Ends the op successfully, unless its results cannot be copied back. To be called when it is intact.
   * @param peer Rank in the group that a recv received its tensor from.
   */
  succeed(peer: number): void {
    if (peer >= 0) this.cameFrom(peer);
    const isLost = this.#staged?.copyBack() === false;
    this.release();
    if (!isLost) {
      this.settle();
      return;
    }
    this.settle(
      new InvalidArgumentError(
        `${this.describe()}: a buffer was detached or resized while the op was using it; its result is lost, ` +
          "but the group goes on. Do not transfer, post or shrink a buffer before the Work of its op has ended, or use " +
          "dist.empty(); C10D_CHECK_DETACH=1 shows where that happens",
        { code: "DETACHED_BUFFER", op: opNames[this.opType], seq: this.seq },
      ),
    );
  }

  /** Called when native code no longer uses the memory of the op. */
  release(): void {
    this.tensors = undefined;
    this.#staged?.release();
    this.#staged = undefined;
    if (this.#holds === undefined) return;
    releaseHolds(this.#holds);
    this.#holds = undefined;
  }

  protected override block(limitMs: number): void {
    if (!this.#group.wait(this, limitMs)) throw this.waitTimeout(limitMs);
  }
}

function areWhole(tensors: TensorView | readonly TensorView[]): boolean {
  if (isList(tensors)) return tensors.every(areWhole);
  return tensors.data === undefined || isWhole(tensors.data, tensors.byteLength);
}

function isList(tensors: TensorView | readonly TensorView[]): tensors is readonly TensorView[] {
  return Array.isArray(tensors);
}
