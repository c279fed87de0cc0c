import { ptr } from "bun:ffi";
import type { StagedMemory, StagingArea } from "../../native/index.ts";
import {
  isDetachable,
  isWhole,
  memoryKindOf,
  overlaps,
  STAGED_ALIGNMENT,
  STAGED_BYTES,
  stagedBytes,
  type TensorStorage,
  type TensorView,
} from "../../tensor/index.ts";

/** A copy, and the tensor that its contents go back to. */
interface Copy {
  readonly of: TensorView;
  readonly address: number;
}

/** A single small tensor; {@link StagedTensors} has several. */
export class StagedTensor implements StagedMemory {
  readonly address: number;
  readonly #area: StagingArea;
  readonly #data: TensorStorage;
  readonly #bytes: number;

  constructor(data: TensorStorage, bytes: number, area: StagingArea) {
    this.#area = area;
    this.#data = data;
    this.#bytes = bytes;
    this.address = area.take(bytes);
    area.copy(this.address, data, bytes);
  }

  copyBack(): boolean {
    if (!isWhole(this.#data, this.#bytes)) return false;
    this.#area.copy(this.#data, this.address, this.#bytes);
    return true;
  }

  release(): void {
    this.#area.give(this.address, this.#bytes);
  }
}

/**
 * The tensors of one op as native code sees them. Some of them are copies:
 * - all, if they are small, so that it does no harm to detach one;
 * - those in a resizable `ArrayBuffer`, which releases its pages when it shrinks: native threads that use them would
 *   crash the process;
 * - an input and an output that share memory, which not every library supports.
 */
export class StagedTensors implements StagedMemory {
  readonly inputs: readonly TensorView[];
  readonly outputs: readonly TensorView[];
  /** Tensors that are used in place, and are lost with their buffer. */
  readonly exposed: readonly TensorView[];
  readonly #area: StagingArea;
  readonly #slotBytes: number = 0;
  readonly #slot: number = 0;
  #at = 0;
  /** Copies outside the area, kept alive here. */
  readonly #own: Uint8Array[] = [];
  readonly #results: Copy[] = [];

  constructor(inputs: readonly TensorView[], outputs: readonly TensorView[], area: StagingArea) {
    this.#area = area;
    const total = stagedBytes(inputs) + stagedBytes(outputs);
    const isSmall = total > 0 && total <= STAGED_BYTES;
    if (isSmall) {
      this.#slotBytes = total;
      this.#slot = area.take(total);
      this.#at = this.#slot;
    }
    const copied = (view: TensorView): boolean => isSmall || isCopied(view);
    this.inputs = inputs.map((view, i) => {
      return copied(view) || sharesWith(view, partnersOf(i, inputs, outputs), (a, b) => a <= b)
        ? this.#copyOf(view)[0]
        : view;
    });
    this.outputs = outputs.map((view, i) => {
      if (!copied(view) && !sharesWith(view, partnersOf(i, outputs, inputs), (a, b) => a < b)) return view;
      const [copy, result] = this.#copyOf(view);
      if (result !== undefined) this.#results.push(result);
      return copy;
    });
    this.exposed = isSmall ? [] : [...this.inputs, ...this.outputs].filter(isDetachable);
  }

  copyBack(): boolean {
    const isThere = ({ data, byteLength }: TensorView): boolean => data === undefined || isWhole(data, byteLength);
    if (!this.#results.every(({ of }) => isThere(of))) return false;
    for (const { of, address } of this.#results) this.#area.copy(of.data ?? of.ptr, address, of.byteLength);
    return true;
  }

  release(): void {
    if (this.#slot !== 0) this.#area.give(this.#slot, this.#slotBytes);
  }

  #copyOf(view: TensorView): [TensorView, Copy?] {
    const { data, byteLength, device } = view;
    if (byteLength === 0 || device.type !== "cpu") return [view];
    const address = this.#room(byteLength);
    this.#area.copy(address, data ?? view.ptr, byteLength);
    return [
      { ...view, data: undefined, ptr: address },
      { of: view, address },
    ];
  }

  #room(bytes: number): number {
    if (this.#slot !== 0) {
      const address = this.#at;
      this.#at += Math.ceil(bytes / STAGED_ALIGNMENT) * STAGED_ALIGNMENT;
      return address;
    }
    const own = new Uint8Array(new ArrayBuffer(bytes));
    this.#own.push(own);
    return ptr(own);
  }
}

function isCopied({ data, byteLength }: TensorView): boolean {
  return data !== undefined && byteLength > 0 && memoryKindOf(data) === "resizable";
}

/** The tensors of the other list that the `i`-th of this one may share memory with: only a rank's own part may. */
function partnersOf(i: number, list: readonly TensorView[], others: readonly TensorView[]): readonly TensorView[] {
  return list.length === others.length ? others.slice(i, i + 1) : others;
}

/** Whether a tensor shares memory with one of the others and is the one of the two to copy, by their sizes. */
function sharesWith(
  view: TensorView,
  others: readonly TensorView[],
  isSmaller: (own: number, other: number) => boolean,
): boolean {
  return others.some((other) => isSmaller(view.byteLength, other.byteLength) && overlaps(view, other));
}
