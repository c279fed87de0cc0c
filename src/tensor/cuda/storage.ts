import type { Hold } from "../tensor-hold.ts";
import { keepUntilDone } from "./copies.ts";
import { type Block, memoryOfDevice } from "./device-memory.ts";
import { type StreamPlace, waitForMark } from "./raw-events.ts";

/** Memory that several tensors share. It is freed when none of them is left, and nothing else holds it. */
export class Storage {
  /** Address of the first byte; 0 if there is none. */
  readonly address: number;
  readonly device: number;
  /** The allocation; undefined for memory of others, and for none. */
  readonly #block: Block | undefined;
  /** What owns the memory of others. */
  #owner: unknown;
  /** Streams whose work uses it, or may. */
  readonly #streams: StreamPlace[] = [];
  /** Streams that wait for former users of the memory, other than that of the allocation. */
  readonly #ordered: StreamPlace[] = [];
  #references = 0;
  #holds = 0;

  private constructor(address: number, device: number, block: Block | undefined, owner: unknown) {
    this.address = address;
    this.device = device;
    this.#block = block;
    this.#owner = owner;
  }

  /** New memory, to be used in a stream first. */
  static allocate(bytes: number, stream: StreamPlace): Storage {
    const { device, handle } = stream;
    const block = bytes === 0 ? undefined : memoryOfDevice(device).take(bytes, handle);
    const storage = new Storage(block?.address ?? 0, device, block, undefined);
    storage.#streams.push(stream);
    live.add(storage);
    return storage;
  }

  /** Memory of another library, with what keeps it alive. */
  static foreign(address: number, device: number, owner: unknown): Storage {
    return new Storage(address, device, undefined, owner);
  }

  /** Notes that work in a stream uses it, to be called before that is put there. */
  usedIn(stream: StreamPlace): void {
    if (has(this.#streams, stream)) return;
    this.#order(stream);
    this.#streams.push({ device: stream.device, handle: stream.handle });
  }

  /**
   * Lets a stream wait for former users of the memory, whose work may be in the stream that it was allocated for: once
   * for each stream.
   */
  #order(stream: StreamPlace): void {
    const { before = [] } = this.#block ?? {};
    if (before.length === 0 || has(this.#streams, stream) || has(this.#ordered, stream)) return;
    for (const each of before) waitForMark(stream, each);
    this.#ordered.push({ device: stream.device, handle: stream.handle });
  }

  /** Keeps it for a tensor, until the function that this returns is called. */
  retain(): Hold {
    this.#references++;
    return once(() => {
      this.#references--;
      this.#freeUnused();
    });
  }

  /** Whether an op holds it. */
  get isHeld(): boolean {
    return this.#holds > 0;
  }

  /** Keeps it for an op that starts after this stream, until the function that this returns is called. */
  hold(stream: StreamPlace | undefined): Hold {
    if (stream !== undefined) this.#order(stream);
    this.#holds++;
    return once(() => {
      this.#holds--;
      this.#freeUnused();
    });
  }

  /** Called when the last tensor is released that nobody disposed of. */
  countLeak(): void {
    if (this.#references === 1 && this.#block !== undefined) memoryOfDevice(this.device).leaked++;
  }

  #freeUnused(): void {
    if (this.#references === 0 && this.#holds === 0) this.#free();
  }

  #free(): void {
    live.delete(this);
    if (this.#block !== undefined) memoryOfDevice(this.device).give(this.#block, this.#streams);
    if (this.#owner === undefined) return;
    // Copies may still use its memory.
    for (const stream of this.#streams) keepUntilDone(stream, this.#owner, []);
    this.#owner = undefined;
  }

  /** Frees what no op uses, although there are tensors, when their thread ends. */
  static freeAll(): void {
    for (const storage of live) if (storage.#holds === 0) storage.#free();
  }
}

/** Storages that were not freed. */
const live = new Set<Storage>();

function has(list: readonly StreamPlace[], { device, handle }: StreamPlace): boolean {
  return list.some((each) => each.handle === handle && each.device === device);
}

function once(end: () => void): Hold {
  let hasEnded = false;
  return () => {
    if (hasEnded) return;
    hasEnded = true;
    end();
  };
}
