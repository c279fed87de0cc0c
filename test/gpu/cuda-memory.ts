import { type CudaTensor, cuda } from "../../src/index.ts";
import type { DeviceMemory, SuiteMemory } from "../../src/testing/index.ts";

/** Memory of a CUDA device for the conformance suite. */
class CudaMemory implements DeviceMemory {
  readonly index: number;
  readonly #blocks = new Map<number, CudaTensor<"uint8">>();

  constructor(index: number) {
    this.index = index;
  }

  allocate(byteLength: number): number {
    const block = cuda.empty("uint8", byteLength, { device: this.index });
    this.#blocks.set(block.ptr, block);
    return block.ptr;
  }

  write(address: number, bytes: Uint8Array): void {
    const part = this.#part(address, bytes.length);
    part.copyFrom(bytes);
    // The suite's ops may be in any stream.
    cuda.currentStream(this.index).synchronizeSync();
    part[Symbol.dispose]();
  }

  read(address: number, byteLength: number): Uint8Array {
    using part = this.#part(address, byteLength);
    return part.toHostSync();
  }

  free(address: number): void {
    const block = this.#blocks.get(address);
    if (block === undefined) throw new Error(`nothing was allocated at 0x${address.toString(16)}`);
    this.#blocks.delete(address);
    block[Symbol.dispose]();
  }

  /** A view of a range, which must be in one block. */
  #part(address: number, byteLength: number): CudaTensor<"uint8", number> {
    for (const [start, block] of this.#blocks) {
      if (address >= start && address + byteLength <= start + block.byteLength) {
        return block.slice(address - start, byteLength);
      }
    }
    throw new Error(`${byteLength} bytes at 0x${address.toString(16)} were not allocated`);
  }
}

const memory: SuiteMemory = {
  device: "cuda",
  module: import.meta.url,
  open: ({ rank }) => {
    const index = rank % cuda.deviceCount();
    cuda.setDevice(index);
    return new CudaMemory(index);
  },
};

/** Each rank has the device of its number, or shares one if there are not as many. */
export default memory;
