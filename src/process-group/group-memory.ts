import { InvalidArgumentError, UnsupportedOperationError } from "../errors/index.ts";
import type { MemoryServices } from "../registry/index.ts";
import type { TensorView } from "../tensor/index.ts";
import type { Work } from "../work/index.ts";
import type { Pipeline } from "./pipeline/pipeline.ts";

/** Memory that a group has registered, until it is disposed of: before the memory is freed. */
export class RegisteredMemory implements AsyncDisposable {
  readonly #end: () => Promise<void>;
  #ended: Promise<void> | undefined;

  constructor(end: () => Promise<void>) {
    this.#end = end;
  }

  /** Ends the registration. Without effect the second time, and when the group has ended. */
  deregister(): Promise<void> {
    this.#ended ??= this.#end();
    return this.#ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.deregister();
  }
}

/** Memory that the library of a group can access from other ranks, until it is closed. */
export class MemoryWindow implements AsyncDisposable {
  readonly #end: () => Promise<void>;
  readonly #address: (groupRank: number) => number;
  #ended: Promise<void> | undefined;

  constructor(end: () => Promise<void>, address: (groupRank: number) => number) {
    this.#end = end;
    this.#address = address;
  }

  /**
   * Address of the part of a rank of the group; 0 if this process does not know it. With NCCL it knows its own only.
   */
  addressOf(groupRank: number): number {
    return this.#ended === undefined ? this.#address(groupRank) : 0;
  }

  /** Closes it: all ranks of the group call it. Without effect the second time, and when the group has ended. */
  close(): Promise<void> {
    this.#ended ??= this.#end();
    return this.#ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

type Service = Exclude<keyof MemoryServices, "addressInWindow">;

/** Whether the group can still be asked for the end of a service. */
type IsOpen = () => boolean;

/** Registers memory with the backend of its device. */
export async function registerMemory(
  pipeline: Pipeline,
  memory: TensorView,
  timeoutMs: number,
  isOpen: IsOpen,
): Promise<RegisteredMemory> {
  await called(pipeline, "registerMemory", "register", memory, timeoutMs);
  return new RegisteredMemory(async () => {
    if (isOpen()) await called(pipeline, "deregister", "deregister", memory, timeoutMs);
  });
}

/** Opens a window over memory of all ranks. */
export async function openWindow(
  pipeline: Pipeline,
  memory: TensorView,
  timeoutMs: number,
  isOpen: IsOpen,
): Promise<MemoryWindow> {
  await called(pipeline, "openWindow", "openWindow", memory, timeoutMs);
  return new MemoryWindow(
    async () => {
      if (isOpen()) await called(pipeline, "close", "closeWindow", memory, timeoutMs);
    },
    (rank) => {
      if (!Number.isInteger(rank) || rank < 0 || rank >= pipeline.size) {
        const text = `addressOf: ${rank} is not a rank of the group, which has ranks 0 to ${pipeline.size - 1}`;
        throw new InvalidArgumentError(text, { argument: "groupRank" });
      }
      return isOpen() ? (pipeline.backend.memoryServices?.addressInWindow?.(memory, rank) ?? 0) : 0;
    },
  );
}

function called(
  { backend, plugin, capabilities }: Pipeline,
  op: string,
  service: Service,
  memory: TensorView,
  timeoutMs: number,
): Work<void> {
  if (memory.data !== undefined || memory.byteLength === 0) {
    const what =
      memory.byteLength === 0 ? "it is empty" : "it is memory of the host; cuda.from() copies that to a device";
    const text = `${op}: tensor must be memory of a device, and not empty: ${what}`;
    throw new InvalidArgumentError(text, { op, argument: "tensor" });
  }
  const missing = op === "registerMemory" || op === "openWindow" ? capabilities.missing?.[op] : undefined;
  if (missing !== undefined) {
    const text = `${op}: backend "${plugin.name}" does not support it: ${missing}`;
    throw new UnsupportedOperationError(text, { op, backend: plugin.name });
  }
  const work = backend.memoryServices?.[service]?.(memory, timeoutMs);
  if (work !== undefined) return work;
  throw new UnsupportedOperationError(`${op}: backend "${plugin.name}" does not support it`, {
    op,
    backend: plugin.name,
  });
}
