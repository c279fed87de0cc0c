import { onDevice } from "./contexts.ts";
import { deviceNamed } from "./device-ordinal.ts";
import { blockFor } from "./device-wait.ts";
import { cudaError, failureOf, requireSuccess, wide, words } from "./driver.ts";
import { Result } from "./driver-symbols.ts";
import { giveMark, isEventDone, type Mark, mark, type StreamPlace } from "./raw-events.ts";

/** Memory of one allocation of the driver. */
export interface Block {
  readonly address: number;
  /** Size of the allocation, which may be more than was asked for. */
  readonly bytes: number;
  /** What its former users had put into the stream that it was taken for; another stream has to wait for that. */
  readonly before: readonly Mark[];
}

/** A block that nobody refers to, for the next allocation of its size. */
interface FreeBlock extends Omit<Block, "before"> {
  /** The only stream that used it, which may use it again at once: its work is in order. */
  readonly only: number | undefined;
  /** What has to be done before another stream may use it. */
  marks: readonly Mark[];
}

/** How much memory a thread has on a device. */
export interface MemoryStats {
  /** Bytes and number of the allocations of tensors that are in use. */
  readonly allocatedBytes: number;
  readonly blocks: number;
  /** Bytes and number of the allocations that are kept for later tensors. */
  readonly cachedBytes: number;
  readonly cachedBlocks: number;
  /** Those of them that work on the device may still use. */
  readonly pendingFrees: number;
  /** Allocations that were lost by the failure of the device. */
  readonly lostBlocks: number;
  /** Tensors' allocations, so far, that nobody disposed of: the garbage collector found them. */
  readonly leaked: number;
}

const SMALL_STEP = 512;
const LARGE_STEP = 2 ** 21;
/** How long freed memory is waited for that work on the device still uses, when there is no other. */
const LONGEST_WAIT_MS = 2_000;

/** Sizes are rounded up, so that a block fits later tensors: as in PyTorch, to 512 bytes, and above 1 MiB to 2 MiB. */
function roundedUp(bytes: number): number {
  const step = bytes <= LARGE_STEP / 2 ? SMALL_STEP : LARGE_STEP;
  return Math.ceil(bytes / step) * step;
}

/**
 * Memory of one device for the tensors of this thread. What is freed is kept for later tensors rather than given back to
 * the driver, whose `cuMemFree` waits for the device: with a collective in flight, for the other ranks.
 */
export class DeviceMemory {
  readonly #device: number;
  readonly #used = new Set<Block>();
  readonly #free = new Map<number, FreeBlock[]>();
  #lost = 0;
  leaked = 0;

  constructor(device: number) {
    this.#device = device;
  }

  /**
   * Memory for a tensor of this stream. Others wait for `before` of the block when they first use it.
   * @throws CudaError (`OUT_OF_MEMORY`) if the device has too little.
   */
  take(bytes: number, stream: number): Block {
    const size = roundedUp(bytes);
    const block =
      this.#reuse(size, stream) ?? this.#allocate(size) ?? this.#allocateAfterTrim(size) ?? this.#await(size, stream);
    if (block === undefined) throw this.#outOfMemory(bytes);
    this.#used.add(block);
    return block;
  }

  #reuse(size: number, stream: number): Block | undefined {
    const list = this.#free.get(size);
    if (list === undefined) return undefined;
    const own = list.findLastIndex(({ only }) => only === stream);
    const at = own >= 0 ? own : list.findLastIndex((each) => this.#isDone(each));
    const [found] = at < 0 ? [] : list.splice(at, 1);
    if (found === undefined) return undefined;
    return { address: found.address, bytes: found.bytes, before: found.marks };
  }

  /** A new block; undefined if the device has no memory left. */
  #allocate(size: number): Block | undefined {
    const result = words(2);
    const status = onDevice(this.#device, (symbols) => symbols.cuMemAlloc_v2(result, size));
    if (status === Result.OUT_OF_MEMORY) return undefined;
    requireSuccess(status, "cuMemAlloc_v2");
    return { address: wide(result), bytes: size, before: [] };
  }

  #allocateAfterTrim(size: number): Block | undefined {
    return this.trim() > 0 ? this.#allocate(size) : undefined;
  }

  /**
   * Waits until work on the device that uses freed blocks is done, if they suffice. Not for long, since an op among that
   * work may need this thread, or another rank that never comes.
   */
  #await(size: number, stream: number): Block | undefined {
    const pending = () => [...this.#free.values()].flat();
    const bytes = pending().reduce((sum, block) => sum + block.bytes, 0);
    if (bytes === 0 || bytes + this.#driverMemory().free < size) return undefined;
    let found: Block | undefined;
    blockFor(LONGEST_WAIT_MS, () => {
      found = this.#reuse(size, stream) ?? this.#allocateAfterTrim(size);
      return found !== undefined || pending().length === 0;
    });
    return found;
  }

  /** Bytes of the device, for all processes. */
  #driverMemory(): { readonly free: number; readonly total: number } {
    const [free, total] = [words(2), words(2)];
    requireSuccess(
      onDevice(this.#device, (symbols) => symbols.cuMemGetInfo_v2(free, total)),
      "cuMemGetInfo_v2",
    );
    return { free: wide(free), total: wide(total) };
  }

  /**
   * Takes back a block. Nothing has to be done on the device before: it is used again only after what is in these
   * streams now.
   */
  give(block: Block, streams: readonly StreamPlace[]): void {
    if (!this.#used.delete(block)) return;
    for (const each of block.before) giveMark(each);
    const marks: Mark[] = [];
    try {
      for (const stream of streams) marks.push(mark(stream));
    } catch {
      // The device has failed, which whoever uses it next is told. Whether something still uses the block is unknown.
      this.#lost++;
      return;
    }
    const list = this.#free.get(block.bytes) ?? [];
    this.#free.set(block.bytes, list);
    const [first] = streams;
    const isOnly = streams.length === 1 && first?.device === this.#device;
    list.push({ address: block.address, bytes: block.bytes, only: isOnly ? first.handle : undefined, marks });
  }

  #isDone(block: FreeBlock): boolean {
    const pending = block.marks.filter((each) => !isEventDone(each));
    for (const each of block.marks) if (!pending.includes(each)) giveMark(each);
    block.marks = pending;
    return pending.length === 0;
  }

  /** Like {@link #isDone}, also on a device that has failed. */
  #isPending(block: FreeBlock): boolean {
    try {
      return !this.#isDone(block);
    } catch {
      return true;
    }
  }

  /** Gives back to the driver what no work on the device uses; returns how many bytes. */
  trim(): number {
    let freed = 0;
    for (const [size, list] of this.#free) {
      const kept = list.filter((block) => !this.#isDone(block));
      for (const { address, bytes } of list) {
        if (kept.some((each) => each.address === address)) continue;
        requireSuccess(
          onDevice(this.#device, (symbols) => symbols.cuMemFree_v2(address)),
          "cuMemFree_v2",
        );
        freed += bytes;
      }
      if (kept.length > 0) this.#free.set(size, kept);
      else this.#free.delete(size);
    }
    return freed;
  }

  stats(): MemoryStats {
    const free = [...this.#free.values()].flat();
    const sum = (blocks: Iterable<Pick<Block, "bytes">>): number =>
      [...blocks].reduce((total, { bytes }) => total + bytes, 0);
    return {
      allocatedBytes: sum(this.#used),
      blocks: this.#used.size,
      cachedBytes: sum(free),
      cachedBlocks: free.length,
      pendingFrees: free.filter((each) => this.#isPending(each)).length,
      lostBlocks: this.#lost,
      leaked: this.leaked,
    };
  }

  #outOfMemory(bytes: number): Error {
    const { free, total } = this.#driverMemory();
    const { allocatedBytes, cachedBytes, pendingFrees } = this.stats();
    const { type, index } = deviceNamed(this.#device);
    return cudaError(
      failureOf(Result.OUT_OF_MEMORY, "cuMemAlloc_v2"),
      `cannot allocate ${bytes} bytes on ${type}:${index}, which has ${free} of ${total} bytes free; ` +
        `tensors of this thread use ${allocatedBytes}, and ${cachedBytes} wait for work on the device (${pendingFrees} tensors)`,
    );
  }
}

const memories: DeviceMemory[] = [];

/** The memory of a device in this thread. */
export function memoryOfDevice(device: number): DeviceMemory {
  const memory = memories[device] ?? new DeviceMemory(device);
  memories[device] = memory;
  return memory;
}

/** The memory of all devices that this thread has used. */
export function allMemories(): readonly DeviceMemory[] {
  return memories.filter((each) => each !== undefined);
}
