import { type Pointer, ptr, toArrayBuffer } from "bun:ffi";
import { InvalidArgumentError } from "../../errors/index.ts";
import { bufferOf, bytesOf, isWhole } from "../memory.ts";
import { type Hold, releaseHolds } from "../tensor-hold.ts";
import type { TensorView } from "../tensor-view.ts";
import { contextOf, onDevice } from "./contexts.ts";
import { blockUntilDone, type WaitOptions, whenDone } from "./device-wait.ts";
import { requireSuccess } from "./driver.ts";
import { givePinned, givePinnedAfter, type PinnedBlock, pinnedBlockAt, takePinned } from "./pinned-memory.ts";
import { giveMark, isEventDone, type Mark, mark, orderStreams, type StreamPlace } from "./raw-events.ts";

/** Host memory that is not page-locked is copied by way of page-locked blocks of at most this size. */
const PIECE_BYTES = 2 ** 24;

/** A part of the memory of a device. */
export interface DeviceRange {
  readonly device: number;
  readonly address: number;
  readonly byteLength: number;
}

/** What a queued copy uses, until it is done. */
interface Kept {
  /** Undefined if that will never be known. */
  readonly until: Mark | undefined;
  readonly memory: unknown;
  readonly holds: readonly Hold[];
}

let kept: Kept[] = [];

/** Keeps memory until what is in a stream now is done. */
export function keepUntilDone(stream: StreamPlace, memory: unknown, holds: readonly Hold[]): void {
  let until: Mark | undefined;
  try {
    until = mark(stream);
  } catch {
    // The device has failed, which whoever uses it next is told; whether it still uses the memory is unknown.
  }
  kept.push({ until, memory, holds });
}

/** Lets go of what copies used that are done. */
export function sweepCopies(): void {
  kept = kept.filter(({ until, holds }) => {
    try {
      if (until === undefined || !isEventDone(until)) return true;
    } catch {
      return true;
    }
    giveMark(until);
    releaseHolds(holds);
    return false;
  });
}

interface HostMemory {
  /** Keeps the memory alive. */
  readonly bytes: Uint8Array;
  readonly address: number;
}

/** Where a tensor lies in host memory. */
function hostMemoryOf({ data, ptr: address, byteLength }: TensorView): HostMemory {
  if (data === undefined) {
    return { bytes: new Uint8Array(toArrayBuffer(address as Pointer, 0, byteLength)), address };
  }
  // From now on its address is fixed.
  void bufferOf(data);
  const bytes = bytesOf(data, byteLength);
  return { bytes, address: ptr(bytes) };
}

/** Queues a copy from host memory, which may be changed afterwards unless it is page-locked. */
export function copyFromHost(to: DeviceRange, source: TensorView, stream: StreamPlace): void {
  const { device, address, byteLength } = to;
  sweepCopies();
  if (byteLength === 0) return;
  const host = hostMemoryOf(source);
  const copy = (at: number, from: number, bytes: number): void => {
    const status = onDevice(device, (symbols) =>
      symbols.cuMemcpyHtoDAsync_v2(address + at, from, bytes, stream.handle),
    );
    requireSuccess(status, "cuMemcpyHtoDAsync_v2");
  };
  if (pinnedBlockAt(host.address, byteLength) !== undefined) {
    copy(0, host.address, byteLength);
    keepUntilDone(stream, host, []);
    return;
  }
  for (let at = 0; at < byteLength; at += PIECE_BYTES) {
    const bytes = Math.min(PIECE_BYTES, byteLength - at);
    const block = takePinned(bytes, device);
    bytesOfBlock(block, bytes).set(host.bytes.subarray(at, at + bytes));
    try {
      copy(at, block.address, bytes);
    } catch (error) {
      givePinned(block);
      throw error;
    }
    givePinnedAfter(mark(stream), [block]);
  }
}

interface Piece {
  readonly at: number;
  readonly bytes: number;
  readonly block: PinnedBlock;
}

/** A copy to host memory that was queued. It shows what the device has when the stream gets there, not later. */
export class HostCopy {
  readonly #target: TensorView;
  readonly #host: HostMemory | undefined;
  readonly #pieces: Piece[] = [];
  readonly #until: Mark | undefined;

  constructor({ device, address, byteLength }: DeviceRange, target: TensorView, stream: StreamPlace) {
    sweepCopies();
    this.#target = target;
    if (byteLength === 0) return;
    const host = hostMemoryOf(target);
    this.#host = host;
    const copy = (at: number, to: number, bytes: number): void => {
      const status = onDevice(device, (symbols) =>
        symbols.cuMemcpyDtoHAsync_v2(to, address + at, bytes, stream.handle),
      );
      requireSuccess(status, "cuMemcpyDtoHAsync_v2");
    };
    if (pinnedBlockAt(host.address, byteLength) !== undefined) copy(0, host.address, byteLength);
    else {
      for (let at = 0; at < byteLength; at += PIECE_BYTES) {
        const bytes = Math.min(PIECE_BYTES, byteLength - at);
        const block = takePinned(bytes, device);
        this.#pieces.push({ at, bytes, block });
        copy(at, block.address, bytes);
      }
    }
    this.#until = mark(stream);
  }

  /** Waits until it is there, without blocking this thread. `what` is for messages. */
  async finish(what: string, options: WaitOptions): Promise<void> {
    try {
      await whenDone(what, options, () => this.#isReached());
    } catch (error) {
      this.#abandon();
      throw error;
    }
    // Large copies leave time for other code in between.
    while (!this.#finishPiece()) await new Promise((resolve) => setImmediate(resolve));
  }

  /** Blocks until it is there. */
  finishSync(what: string, options: WaitOptions): void {
    try {
      blockUntilDone(what, options, () => this.#isReached());
    } catch (error) {
      this.#abandon();
      throw error;
    }
    while (!this.#finishPiece());
  }

  /** Whether the device is done with it. Throws if the device failed. */
  #isReached(): boolean {
    return this.#until === undefined || isEventDone(this.#until);
  }

  /** When the device is done, brings it to where it belongs: a piece at each call, until this returns `true`. */
  #finishPiece(): boolean {
    const piece = this.#pieces[0];
    if (piece !== undefined) {
      const { data, byteLength } = this.#target;
      if (data !== undefined && !isWhole(data, byteLength)) throw detached();
      this.#host?.bytes.set(bytesOfBlock(piece.block, piece.bytes), piece.at);
      this.#pieces.shift();
      givePinned(piece.block);
    }
    if (this.#pieces.length > 0) return false;
    if (this.#until !== undefined) giveMark(this.#until);
    return true;
  }

  /** Called instead of {@link #finishPiece} when nobody waits for it any more. */
  #abandon(): void {
    const blocks = this.#pieces.splice(0).map(({ block }) => block);
    if (this.#until === undefined) return;
    if (blocks.length > 0) givePinnedAfter(this.#until, blocks);
    // The device still writes to the target.
    else kept.push({ until: this.#until, memory: this.#host, holds: [] });
  }
}

/**
 * Queues a copy from the memory of a device, which may be another one.
 * @param after Streams that it runs after, and which run after it.
 * @param holds Released when it is done.
 */
export function copyFromDevice(
  to: DeviceRange,
  source: TensorView,
  stream: StreamPlace,
  after: readonly StreamPlace[],
  holds: readonly Hold[],
): void {
  sweepCopies();
  const from = source.device.index;
  const { address, byteLength } = to;
  for (const each of after) orderStreams(each, stream);
  if (to.device === from) {
    const status = onDevice(stream.device, (symbols) => {
      return symbols.cuMemcpyDtoDAsync_v2(address, source.ptr, byteLength, stream.handle);
    });
    requireSuccess(status, "cuMemcpyDtoDAsync_v2");
  } else {
    const [own, other] = [contextOf(to.device), contextOf(from)];
    const status = onDevice(stream.device, (symbols) => {
      return symbols.cuMemcpyPeerAsync(address, own, source.ptr, other, byteLength, stream.handle);
    });
    requireSuccess(status, "cuMemcpyPeerAsync");
  }
  keepUntilDone(stream, source, holds);
  for (const each of after) orderStreams(stream, each);
}

/** Queues writing a repeated pattern: `bytes` is a whole number of them, shorter than a piece. */
export function fillFromHost(to: DeviceRange, pattern: Uint8Array, stream: StreamPlace): void {
  if (to.byteLength === 0) return;
  const whole = Math.min(to.byteLength, Math.floor(PIECE_BYTES / 16 / pattern.length) * pattern.length);
  const block = takePinned(whole, to.device);
  const bytes = bytesOfBlock(block, whole);
  for (let at = 0; at < whole; at += pattern.length) bytes.set(pattern, at);
  try {
    for (let at = 0; at < to.byteLength; at += whole) {
      const length = Math.min(whole, to.byteLength - at);
      const status = onDevice(to.device, (symbols) =>
        symbols.cuMemcpyHtoDAsync_v2(to.address + at, block.address, length, stream.handle),
      );
      requireSuccess(status, "cuMemcpyHtoDAsync_v2");
    }
  } finally {
    givePinnedAfter(mark(stream), [block]);
  }
}

function bytesOfBlock({ address }: PinnedBlock, bytes: number): Uint8Array {
  return new Uint8Array(toArrayBuffer(address as Pointer, 0, bytes));
}

function detached(): InvalidArgumentError {
  return new InvalidArgumentError(
    "copyTo: the target's buffer was detached or resized before the copy was done; use dist.empty() or cuda.pinned()",
    { code: "DETACHED_BUFFER", argument: "target" },
  );
}
