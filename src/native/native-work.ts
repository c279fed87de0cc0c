import { opNames } from "../collectives/op-type.ts";
import { InvalidArgumentError, UnsupportedOperationError } from "../errors/index.ts";
import { isWhole, type TensorView } from "../tensor/index.ts";
import { Work, type WorkInit } from "../work/index.ts";
import type { NativeFailure, NativeGroup } from "./native-group.ts";
import type { StagedMemory } from "./staging-area.ts";

export interface NativeWorkInit<T> extends WorkInit {
  /** Id in the native group. */
  readonly id: number;
  /** What the op resolves to. */
  readonly result: T;
  /** Kept alive until the op has ended. */
  readonly tensors: TensorView | readonly TensorView[];
  /** Those of them that native code uses where they are and that can be detached: watched. */
  readonly exposed?: TensorView | readonly TensorView[] | undefined;
  /** What native code works on instead of the tensors. */
  readonly staged?: StagedMemory | undefined;
  /** Turns the rank that a recv came from into a global rank. */
  readonly sourceRank?: (groupRank: number) => number;
}

/** Work of an op in a shim. */
export class NativeWork<T> extends Work<T> {
  readonly id: number;
  /** How it failed, as soon as that is known. */
  failure: NativeFailure | undefined;
  /** Its memory was detached while native code was using it. */
  isDetached = false;
  /** Place among the exposed Works of its group. */
  exposedAt = -1;
  readonly #group: NativeGroup;
  readonly #result: T;
  /** Kept alive as long as native code may use them. */
  tensors: TensorView | readonly TensorView[] | undefined;
  readonly #exposed: NativeWorkInit<T>["exposed"];
  #staged: StagedMemory | undefined;
  readonly #toSourceRank: ((groupRank: number) => number) | undefined;
  #source = -1;

  constructor(group: NativeGroup, init: NativeWorkInit<T>) {
    super(init);
    this.#group = group;
    this.id = init.id;
    this.#result = init.result;
    this.tensors = init.tensors;
    this.#exposed = init.exposed;
    this.#staged = init.staged;
    this.#toSourceRank = init.sourceRank;
  }

  /** Name and number, for messages. */
  get title(): string {
    return this.describe();
  }

  /** Whether native code uses memory that could be detached. */
  get isExposed(): boolean {
    return this.#exposed !== undefined;
  }

  /** Whether that memory is still there. */
  get isIntact(): boolean {
    return this.#exposed === undefined || areWhole(this.#exposed);
  }

  /** Ends the op well, unless its results have nowhere to go. To be called when it is intact. */
  succeed(peer: number): void {
    this.#source = peer;
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
          "dist.empty(); C10D_CHECK_DETACH=1 shows where it is done",
        { code: "DETACHED_BUFFER", op: opNames[this.opType], seq: this.seq },
      ),
    );
  }

  /** Native code is done with the memory of the op. */
  release(): void {
    this.tensors = undefined;
    this.#staged?.release();
    this.#staged = undefined;
  }

  override sourceRank(): number {
    if (this.#toSourceRank === undefined) return super.sourceRank();
    if (!this.isSuccess()) {
      throw new UnsupportedOperationError(`${this.describe()}: the source rank is known only after success`);
    }
    return this.#toSourceRank(this.#source);
  }

  override abort(): void {
    if (!this.isCompleted()) this.#group.abort(`${this.describe()} was aborted`);
  }

  protected override block(limitMs: number): void {
    if (!this.#group.wait(this, limitMs)) throw this.waitTimeout(limitMs);
  }

  protected override value(): T {
    return this.#result;
  }
}

function areWhole(tensors: TensorView | readonly TensorView[]): boolean {
  if (isList(tensors)) return tensors.every(areWhole);
  return tensors.data === undefined || isWhole(tensors.data, tensors.byteLength);
}

function isList(tensors: TensorView | readonly TensorView[]): tensors is readonly TensorView[] {
  return Array.isArray(tensors);
}
