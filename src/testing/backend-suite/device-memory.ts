import { describe, InvalidArgumentError } from "../../errors/index.ts";
import type { Device, DeviceType } from "../../tensor/index.ts";
import { CheckedMemory } from "./checked-memory.ts";

/**
 * Memory of the device of one rank, for the tensors of the conformance suite. A backend receives its addresses as the
 * `ptr` of tensors.
 */
export interface DeviceMemory {
  /** Number of the device among those of its kind: 1 for `cuda:1`. The groups of this rank are bound to it. */
  readonly index: number;
  /** Allocates this many bytes, at least one. The address must be a multiple of 8. */
  allocate(byteLength: number): number;
  /** Copies bytes to an address; they are there when it returns. */
  write(address: number, bytes: Uint8Array): void;
  /** Copies bytes from an address, as written by all ops that have ended. */
  read(address: number, byteLength: number): Uint8Array;
  /** Frees what was allocated at an address. Called when the group of its case has been closed. */
  free(address: number): void;
  /** Called once, when the rank has run all cases. */
  close?(): void | PromiseLike<void>;
}

/** Opens the {@link DeviceMemory} of each rank for the conformance suite. */
export interface SuiteMemory {
  /** Kind of the devices. */
  readonly device: DeviceType;
  /** `import.meta.url` of the file whose default export this is, so that ranks in other processes can load it. */
  readonly module?: string;
  /** Called once on each rank. */
  open(place: RankPlace): DeviceMemory | PromiseLike<DeviceMemory>;
}

/** Which rank memory is for. */
export interface RankPlace {
  readonly rank: number;
  readonly worldSize: number;
}

/** The memory of a rank with the device that it is on. */
export interface OpenMemory {
  readonly device: Device;
  readonly memory: CheckedMemory;
}

const methods = ["allocate", "write", "read", "free"] as const;

/** Opens the memory of a rank, which may be written in JavaScript. */
export async function openMemory(from: SuiteMemory, place: RankPlace): Promise<OpenMemory> {
  const memory = await from.open(place);
  const isClosable = memory?.close === undefined || typeof memory.close === "function";
  const missing =
    methods.find((method) => typeof memory?.[method] !== "function") ?? (isClosable ? undefined : "close");
  if (missing !== undefined) {
    throw new InvalidArgumentError(`testBackend: the result of memory.open() must have a method ${missing}()`, {
      argument: "memory",
    });
  }
  const { index } = memory;
  if (!Number.isSafeInteger(index) || index < 0) {
    const text = `testBackend: the result of memory.open() must have the number of its device as index, got ${describe(index)}`;
    throw new InvalidArgumentError(text, { argument: "memory" });
  }
  const checked = new CheckedMemory(memory);
  try {
    checked.verify();
  } catch (error) {
    await checked.close().catch(() => {});
    throw error;
  }
  return { device: { type: from.device, index }, memory: checked };
}

/** Where a rank in another process finds the {@link SuiteMemory}, and the type of its devices. */
export interface MemorySource {
  readonly module: string;
  readonly device: DeviceType;
}

/** Where ranks find a memory. @throws InvalidArgumentError for a memory without a module. */
export function sourceOfMemory(memory: SuiteMemory | undefined, backend: string): MemorySource | undefined {
  if (memory === undefined) return undefined;
  const { module, device } = memory;
  if (typeof module === "string") return { module, device };
  throw new InvalidArgumentError(
    "testBackend: ranks in other processes or Workers cannot load the memory: add `module: import.meta.url` to it, in the file " +
      "whose default export it is",
    { argument: "memory", backend },
  );
}

/** Loads the {@link SuiteMemory} in another process. */
export async function loadMemory({ module, device }: MemorySource): Promise<SuiteMemory> {
  const { default: exported } = (await import(module)) as { default?: Partial<SuiteMemory> };
  if (exported?.device === device && typeof exported.open === "function") return exported as SuiteMemory;
  const text = `testBackend: ranks load the memory of ${device} from ${module}, but it is not the default export there`;
  throw new InvalidArgumentError(text, { argument: "memory" });
}
