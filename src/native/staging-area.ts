import { dlopen, type Pointer, ptr, toArrayBuffer } from "bun:ffi";
import { bytesOf, STAGED_BYTES, type TensorView } from "../tensor/index.ts";

type Place = ArrayBufferView | number;

/** Copies bytes from one place to another; neither may be detached. */
export type CopyBytes = (to: Place, from: Place, bytes: number) => void;

/** Our own memory, on which an op works instead of the caller's tensors. */
export interface StagedMemory {
  /** Copies the results to the caller's tensors. Returns false, without copying, when their memory is detached. */
  copyBack(): boolean;
  /** Called when native code no longer uses it. */
  release(): void;
}

/** Small ops need small slots, since there may be many of them in flight. */
const SMALL_BYTES = 256;
const SLOTS_PER_BLOCK = 64;

/** Slots of memory for the small ops of one group. It grows with the number of ops in flight. */
export class StagingArea {
  readonly copy: CopyBytes;
  readonly #blocks: Uint8Array[] = [];
  readonly #small: number[] = [];
  readonly #large: number[] = [];

  constructor(copy: CopyBytes) {
    this.copy = copy;
  }

  /** Address of a slot of at least this many bytes, {@link STAGED_BYTES} at most. */
  take(bytes: number): number {
    const isSmall = bytes <= SMALL_BYTES;
    return (isSmall ? this.#small : this.#large).pop() ?? this.#grow(isSmall);
  }

  /** Takes back a slot that {@link take} returned for this many bytes. */
  give(address: number, bytes: number): void {
    (bytes <= SMALL_BYTES ? this.#small : this.#large).push(address);
  }

  #grow(isSmall: boolean): number {
    const size = isSmall ? SMALL_BYTES : STAGED_BYTES;
    const block = new Uint8Array(new SharedArrayBuffer(size * SLOTS_PER_BLOCK));
    this.#blocks.push(block);
    const first = ptr(block);
    for (let i = SLOTS_PER_BLOCK - 1; i > 0; i--) this.give(first + i * size, size);
    return first;
  }
}

/** `memcpy` of the C library that the library at `path` is linked to. */
export function copyBytesOf(path: string): CopyBytes {
  try {
    const { memcpy } = dlopen(path, { memcpy: { args: ["ptr", "ptr", "u64"], returns: "void" } }).symbols;
    return memcpy as CopyBytes;
  } catch {
    // The shim does not use the C library.
    return (to, from, bytes) => bytesAt(to, bytes).set(bytesAt(from, bytes));
  }
}

function bytesAt(place: Place, bytes: number): Uint8Array {
  return typeof place === "number"
    ? new Uint8Array(toArrayBuffer(place as Pointer, 0, bytes))
    : bytesOf(place as NonNullable<TensorView["data"]>, bytes);
}
