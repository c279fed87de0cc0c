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
  /** Bytes that native code wrote elsewhere, and the tensors that they belong into; copied when it has ended well. */
  readonly copies?: readonly { readonly to: TensorView; readonly from: Uint8Array }[] | undefined;
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
  #copies: NativeWorkInit<T>["copies"];
  readonly #toSourceRank: ((groupRank: number) => number) | undefined;
  #source = -1;

  constructor(group: NativeGroup, init: NativeWorkInit<T>) {
    super(init);
    this.#group = group;
    this.id = init.id;
    this.#result = init.result;
    this.#tensors = init.tensors;
    this.#copies = init.copies;
    this.#toSourceRank = init.sourceRank;
  }

  /** Ends the op well, unless a buffer was taken away from under it. */
  succeed(peer: number): void {
    this.#source = peer;
    const tensors = this.#tensors;
    const copies = this.#copies;
    this.#tensors = undefined;
    this.#copies = undefined;
    if (tensors === undefined || intact(tensors)) {
      if (copies !== undefined) for (const { to, from } of copies) copyInto(to, from);
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
    if (!this.isCompleted()) this.#group.abort(`${this.describe()} was aborted`);
  }

  protected override block(limitMs: number): void {
    if (!this.#group.wait(this, limitMs)) throw this.waitTimeout(limitMs);
  }

  protected override value(): T {
    return this.#result;
  }
}

function copyInto({ data }: TensorView, bytes: Uint8Array): void {
  if (data !== undefined) new Uint8Array(data.buffer, data.byteOffset, bytes.length).set(bytes);
}

function intact(tensors: TensorView | readonly TensorView[]): boolean {
  if (isList(tensors)) return tensors.every(intact);
  return tensors.data === undefined || tensors.data.byteLength === tensors.byteLength;
}

function isList(tensors: TensorView | readonly TensorView[]): tensors is readonly TensorView[] {
  return Array.isArray(tensors);
}
