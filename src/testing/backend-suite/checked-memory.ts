import { describe, InvalidArgumentError } from "../../errors/index.ts";
import type { DeviceMemory } from "./device-memory.ts";

/** Addresses must be multiples of this, for every dtype. */
const ALIGNMENT = 8;

/** Number of bytes of the trial of a device's memory. */
const TRIAL_BYTES = 1000;

/** Checks the user's memory of a device, whose errors would otherwise be blamed on the backend. */
export class CheckedMemory implements DeviceMemory {
  readonly #memory: DeviceMemory;
  /** Allocated blocks: number of bytes by address. */
  readonly #blocks = new Map<number, number>();

  constructor(memory: DeviceMemory) {
    this.#memory = memory;
  }

  get index(): number {
    return this.#memory.index;
  }

  /** Tries it without a backend. @throws InvalidArgumentError if bytes that were written are not read again. */
  verify(): void {
    const blocks = [1, 2].map((seed) => {
      const bytes = Uint8Array.from({ length: TRIAL_BYTES }, (_, i) => i * seed + seed);
      return { bytes, address: this.allocate(bytes.length) };
    });
    for (const { address, bytes } of blocks) this.write(address, bytes);
    for (const { address, bytes } of blocks) {
      if (Buffer.compare(this.read(address, bytes.length), bytes) !== 0) {
        throw fault("read() must return the bytes that write() copied there, but returned others");
      }
    }
    for (const { address } of blocks) this.free(address);
  }

  allocate(byteLength: number): number {
    const address = atOnce("allocate", this.#memory.allocate(byteLength));
    if (!Number.isSafeInteger(address) || address <= 0) {
      throw fault(`allocate() must return an address, a positive integer, got ${describe(address)}`);
    }
    const given = `0x${address.toString(16)}`;
    if (address % ALIGNMENT !== 0) {
      throw fault(`allocate() must return an address that is a multiple of ${ALIGNMENT}, got ${given}`);
    }
    for (const [other, length] of this.#blocks) {
      if (address >= other + length || other >= address + byteLength) continue;
      throw fault(`allocate(${byteLength}) returned ${given}, within or around ${length} bytes that are still in use`);
    }
    this.#blocks.set(address, byteLength);
    return address;
  }

  write(address: number, bytes: Uint8Array): void {
    atOnce("write", this.#memory.write(address, bytes));
  }

  read(address: number, byteLength: number): Uint8Array {
    const bytes = atOnce("read", this.#memory.read(address, byteLength));
    if (bytes instanceof Uint8Array && bytes.length === byteLength) return bytes;
    const given = bytes instanceof Uint8Array ? `${bytes.length} bytes` : describe(bytes);
    throw fault(`read(address, ${byteLength}) must return a Uint8Array of that many bytes, got ${given}`);
  }

  free(address: number): void {
    this.#blocks.delete(address);
    atOnce("free", this.#memory.free(address));
  }

  async close(): Promise<void> {
    await this.#memory.close?.();
  }
}

/** The result of a method, which must not be a promise. */
function atOnce<T>(method: string, returned: T): T {
  if (!(returned instanceof Promise)) return returned;
  // Unhandled, it would end the process when it rejects.
  returned.catch(() => {});
  throw fault(`${method}() must not be async: the suite relies on it being done when it returns`);
}

function fault(text: string): InvalidArgumentError {
  return new InvalidArgumentError(`testBackend: the memory is at fault: ${text}`, { argument: "memory" });
}
