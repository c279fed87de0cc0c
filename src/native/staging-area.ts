import { dlopen, type Pointer, ptr, toArrayBuffer } from "bun:ffi";
import { bytesOf, STAGED_BYTES, type TensorView } from "../tensor/index.ts";

type Place = ArrayBufferView | number;

/** Copies bytes from one place to another; neither may be gone. */
export type CopyBytes = (to: Place, from: Place, bytes: number) => void;

/** Memory of our own that an op works on instead of the tensors that it was given. */
export interface StagedMemory {
  /** Copies the results to where they belong. Returns false, having copied nothing, when that memory is gone. */
  copyBack(): boolean;
  /** Native code is done with it. */
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

  /** Address of a slot of at least so many bytes, of which there may be {@link STAGED_BYTES}. */
  take(bytes: number): number {
    const isSmall = bytes <= SMALL_BYTES;
    return (isSmall ? this.#small : this.#large).pop() ?? this.#grow(isSmall);
  }

  /** Takes back what {@link take} has given for so many bytes. */
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

/** `memcpy` as the library at `path` has it, which is that of the C library. */
export function copyBytesOf(path: string): CopyBytes {
  try {
    const { memcpy } = dlopen(path, { memcpy: { args: ["ptr", "ptr", "u64"], returns: "void" } }).symbols;
    return memcpy as CopyBytes;
  } catch {
    // A shim that does without the C library.
    return (to, from, bytes) => bytesAt(to, bytes).set(bytesAt(from, bytes));
  }
}

function bytesAt(place: Place, bytes: number): Uint8Array {
  return typeof place === "number"
    ? new Uint8Array(toArrayBuffer(place as Pointer, 0, bytes))
    : bytesOf(place as NonNullable<TensorView["data"]>, bytes);
}
