import { opNames } from "../collectives/op-type.ts";
import { InvalidArgumentError, UnsupportedOperationError } from "../errors/index.ts";
import type { TensorView } from "../tensor/index.ts";
import { Work, type WorkInit } from "../work/index.ts";
import type { NativeFailure, NativeGroup } from "./native-group.ts";

export interface NativeWorkInit<T> extends WorkInit {
  /** Id in the native group. */
  readonly id: number;
  /** What the op resolves to. */
  readonly result: T;
  /** Tensors that native code reads and writes: kept alive, and watched for detaching. */
  readonly tensors: TensorView | readonly TensorView[];
  /** Turns the rank that a recv came from into a global rank. */
  readonly sourceRank?: (groupRank: number) => number;
}

/** Work of an op in a shim. */
export class NativeWork<T> extends Work<T> {
  readonly id: number;
  /** How it failed, as soon as that is known. */
  failure: NativeFailure | undefined;
  readonly #group: NativeGroup;
  readonly #result: T;
  #tensors: TensorView | readonly TensorView[] | undefined;
  readonly #toSourceRank: ((groupRank: number) => number) | undefined;
  #source = -1;

  constructor(group: NativeGroup, init: NativeWorkInit<T>) {
    super(init);
    this.#group = group;
    this.id = init.id;
    this.#result = init.result;
    this.#tensors = init.tensors;
    this.#toSourceRank = init.sourceRank;
  }

  /** Ends the op well, unless a buffer was taken away from under it. */
  succeed(peer: number): void {
    this.#source = peer;
    const tensors = this.#tensors;
    this.#tensors = undefined;
    if (tensors === undefined || intact(tensors)) {
      this.settle();
      return;
    }
    this.settle(
      new InvalidArgumentError(
        `${this.describe()}: a buffer was detached or resized while the op was using it; its result is lost`,
        { code: "DETACHED_BUFFER", op: opNames[this.opType], seq: this.seq },
      ),
    );
  }

  override sourceRank(): number {
    if (this.#toSourceRank === undefined) return super.sourceRank();
    if (!this.isSuccess()) {
      throw new UnsupportedOperationError(`${this.describe()}: the source rank is known only after success`);
    }
    return this.#toSourceRank(this.#source);
  }

  override abort(): void {
    this.#group.abort(`${this.describe()} was aborted`);
  }

  protected override block(limitMs: number): void {
    if (!this.#group.wait(this, limitMs)) throw this.waitTimeout(limitMs);
  }

  protected override value(): T {
    return this.#result;
  }
}

function intact(tensors: TensorView | readonly TensorView[]): boolean {
  if (isList(tensors)) return tensors.every(intact);
  return tensors.data === undefined || tensors.data.byteLength === tensors.byteLength;
}

function isList(tensors: TensorView | readonly TensorView[]): tensors is readonly TensorView[] {
  return Array.isArray(tensors);
}
