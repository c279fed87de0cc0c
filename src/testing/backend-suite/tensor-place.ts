import { type DType, dtypeOfArray, TENSOR_PROTOCOL, type TensorLike, tensor } from "../../tensor/index.ts";
import type { OpenMemory } from "./device-memory.ts";

/** Bytes in some memory, a part of which is a tensor. */
export interface Placed {
  /** What a user would pass to an op. */
  readonly tensor: TensorLike;
  /** All bytes as they are now, including those around the tensor. */
  read(): Uint8Array;
}

/** Where the tensors of a case are. */
export interface TensorPlace {
  /** Puts bytes there; those from `start` up to `end` are the tensor. */
  put(bytes: Uint8Array<ArrayBuffer>, dtype: DType, start: number, end: number): Placed;
  /** Frees what was put there, when nothing can write to it any more. @throws the first error, after trying all. */
  release(): void;
}

/** Host memory. A tensor is a TypedArray where there is one for the dtype. */
export const hostPlace: TensorPlace = {
  put(bytes, dtype, start, end) {
    const view = tensor(bytes.subarray(start, end), { dtype });
    return { tensor: dtypeOfArray(view.data) === dtype ? view.data : view, read: () => bytes };
  },
  release() {},
};

/** Memory of a device, for the tensors of one case. */
export class DevicePlace implements TensorPlace {
  readonly #open: OpenMemory;
  readonly #addresses: number[] = [];

  constructor(open: OpenMemory) {
    this.#open = open;
  }

  put(bytes: Uint8Array<ArrayBuffer>, dtype: DType, start: number, end: number): Placed {
    const { memory, device } = this.#open;
    const address = memory.allocate(bytes.length);
    this.#addresses.push(address);
    memory.write(address, bytes);
    const foreign = { ptr: address + start, byteLength: end - start, dtype, device };
    return { tensor: { [TENSOR_PROTOCOL]: () => foreign }, read: () => memory.read(address, bytes.length) };
  }

  release(): void {
    const errors: unknown[] = [];
    for (const address of this.#addresses.splice(0)) {
      try {
        this.#open.memory.free(address);
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}
