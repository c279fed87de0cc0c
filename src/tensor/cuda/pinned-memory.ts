import { dlopen, type Pointer, read, toArrayBuffer } from "bun:ffi";
import { firstDevice, hasContext, onDevice } from "./contexts.ts";
import { currentOrdinal } from "./device-ordinal.ts";
import { cudaError, failureOf, requireSuccess, wide, words } from "./driver.ts";
import { Result } from "./driver-symbols.ts";
import { giveMark, isEventDone, type Mark } from "./raw-events.ts";

/** Page-locked host memory, which devices read and write by themselves. */
export interface PinnedBlock {
  readonly address: number;
  readonly bytes: number;
  /** Whose context it was allocated in. */
  readonly device: number;
}

/** Usable from all contexts, not only from the current one. */
const PORTABLE = 1;
const SMALLEST = 4096;
/** Above this, sizes are multiples of it rather than powers of two. */
const LARGE_STEP = 2 ** 21;

const idle = new Map<number, PinnedBlock[]>();
/** Blocks that a device uses, with the event after which it no longer does. */
let busy: { readonly blocks: readonly PinnedBlock[]; readonly until: Mark }[] = [];
let totalBytes = 0;

/** Bytes of page-locked memory of this thread. */
export function pinnedBytes(): number {
  return totalBytes;
}

function roundedUp(bytes: number): number {
  if (bytes > LARGE_STEP) return Math.ceil(bytes / LARGE_STEP) * LARGE_STEP;
  return Math.max(SMALLEST, 2 ** Math.ceil(Math.log2(bytes)));
}

/**
 * A block of at least this many bytes, which all devices can use.
 * @param device Its context is used if memory has to be locked.
 * @throws CudaError (`OUT_OF_MEMORY`) if so much cannot be locked.
 */
export function takePinned(bytes: number, device: number): PinnedBlock {
  const size = roundedUp(bytes);
  sweepPinned();
  const known = idle.get(size)?.pop();
  if (known !== undefined) return known;
  const made = allocate(size, device) ?? (trimPinned() > 0 ? allocate(size, device) : undefined);
  if (made !== undefined) return made;
  throw cudaError(
    failureOf(Result.OUT_OF_MEMORY, "cuMemHostAlloc"),
    `cannot lock ${size} bytes of host memory; this thread has ${totalBytes}. ulimit -l may limit it`,
  );
}

function allocate(size: number, device: number): PinnedBlock | undefined {
  const result = words(2);
  const status = onDevice(device, (symbols) => symbols.cuMemHostAlloc(result, size, PORTABLE));
  if (status === Result.OUT_OF_MEMORY) return undefined;
  requireSuccess(status, "cuMemHostAlloc");
  totalBytes += size;
  return { address: wide(result), bytes: size, device };
}

/** Takes back a block that nothing uses. */
export function givePinned(block: PinnedBlock): void {
  const list = idle.get(block.bytes) ?? [];
  idle.set(block.bytes, list);
  list.push(block);
}

/** Takes back blocks, and the event, once that has passed. */
export function givePinnedAfter(until: Mark, blocks: readonly PinnedBlock[]): void {
  busy.push({ blocks, until });
}

/** Takes back what devices have done with, and arrays that were collected. */
export function sweepPinned(): void {
  busy = busy.filter(({ blocks, until }) => {
    try {
      if (!isEventDone(until)) return true;
    } catch {
      // The device has failed: whether it still uses the blocks is unknown, so they are never used again.
      return false;
    }
    giveMark(until);
    for (const block of blocks) givePinned(block);
    return false;
  });
  for (const block of exposed) {
    if (!isCollected(block)) continue;
    exposed.delete(block);
    givePinned(block);
  }
}

/** Gives back to the driver what nothing uses; returns how many bytes. */
export function trimPinned(): number {
  sweepPinned();
  let freed = 0;
  for (const list of idle.values()) {
    for (const { address, bytes, device } of list.splice(0)) {
      requireSuccess(
        onDevice(device, (symbols) => symbols.cuMemFreeHost(address)),
        "cuMemFreeHost",
      );
      freed += bytes;
    }
  }
  totalBytes -= freed;
  return freed;
}

/** Blocks that are the memory of an ArrayBuffer. */
const exposed = new Set<PinnedBlock>();
const MARK_BYTES = 32;
/** Text that no tensor contains, since nobody knows it. */
const mark = Buffer.from(`${crypto.randomUUID().replaceAll("-", "").slice(1)}\0`);
let copyText: number | undefined;

/**
 * An ArrayBuffer in page-locked memory. Its block is used again after the buffer was collected, which may have been
 * transferred elsewhere before.
 *
 * The engine reports that only to a native function, on a thread of its own, where `cuMemFreeHost` may have no context.
 * That function is `strcpy`: it writes a mark at the beginning of the block, of which a copy is at its end.
 */
export function pinnedBuffer(bytes: number): ArrayBuffer {
  copyText ??= addressOfStrcpy();
  const current = currentOrdinal();
  const block = takePinned(bytes + MARK_BYTES, hasContext(current) ? current : (firstDevice() ?? current));
  const end = block.address + block.bytes - MARK_BYTES;
  new Uint8Array(toArrayBuffer(end as Pointer, 0, MARK_BYTES)).set(mark);
  const data = new Uint8Array(toArrayBuffer(block.address as Pointer, 0, bytes));
  data.fill(0);
  exposed.add(block);
  return adoptedBuffer(block.address as Pointer, 0, bytes, end as Pointer, copyText as Pointer);
}

/** Of `toArrayBuffer`, the form with a native function that is called at the end, which its types leave out. */
const adoptedBuffer = toArrayBuffer as (
  address: Pointer,
  offset: number,
  bytes: number,
  context: Pointer,
  whenCollected: Pointer,
) => ArrayBuffer;

function addressOfStrcpy(): number {
  const { symbols } = dlopen("libc.so.6", { strcpy: { args: ["ptr", "ptr"], returns: "ptr" } });
  return (symbols.strcpy as unknown as { readonly ptr: number }).ptr;
}

function isCollected({ address }: PinnedBlock): boolean {
  for (let i = 0; i < MARK_BYTES; i += 4) {
    if (read.u32(address as Pointer, i) !== mark.readUInt32LE(i)) return false;
  }
  return true;
}

/** The block of the ArrayBuffer that a range of addresses lies in, if it is page-locked memory of this thread. */
export function pinnedBlockAt(address: number, bytes: number): PinnedBlock | undefined {
  for (const block of exposed) {
    if (address >= block.address && address + bytes <= block.address + block.bytes) return block;
  }
  return undefined;
}
