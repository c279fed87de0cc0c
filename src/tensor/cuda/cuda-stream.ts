import { brand, describe, InvalidArgumentError } from "../../errors/index.ts";
import type { Device, Stream } from "../device.ts";
import { currentStreamOf, setCurrentStreamOf } from "../device-streams.ts";
import { contextOf, onDevice } from "./contexts.ts";
import { CudaEvent, requireEvent } from "./cuda-event.ts";
import { type CudaDeviceLike, deviceNamed, ordinalOf } from "./device-ordinal.ts";
import { blockUntilDone, type WaitOptions } from "./device-wait.ts";
import { requireSuccess, wide, words } from "./driver.ts";
import { isStreamDone, orderStreams, type StreamPlace } from "./raw-events.ts";
import { givePooledStream, type PooledStream, type StreamPriority, takePooledStream } from "./stream-pool.ts";

/** Options of a {@link CudaStream}. */
export interface CudaStreamOptions {
  /** The current device by default. */
  readonly device?: CudaDeviceLike | undefined;
  /** `"normal"` by default; a number is CUDA's, where less is more urgent. Out of the device's range, the nearest one. */
  readonly priority?: StreamPriority | undefined;
}

/** Makes a stream of a handle that exists; for this file only. */
const GIVEN: unique symbol = Symbol("given");

interface GivenStream {
  readonly [GIVEN]: number;
  readonly device: number;
}

const leaked = new FinalizationRegistry<PooledStream>(givePooledStream);

/**
 * A queue of work on a CUDA device: what is in one stream runs in order, streams run side by side. It does not
 * synchronize with the legacy default stream.
 *
 * Disposing of it returns its handle to a pool of this thread, from which later streams are made; work in it goes on.
 *
 * c10d: `torch.cuda.Stream`.
 */
export class CudaStream implements Stream, Disposable {
  static {
    brand(CudaStream, "CudaStream");
  }
  /** The CUDA device that its work runs on. */
  readonly device: Device;
  readonly #handle: number;
  readonly #pooled: PooledStream | undefined;
  #isDisposed = false;

  constructor(options: CudaStreamOptions = {}) {
    if (typeof options !== "object" || options === null) {
      throw new InvalidArgumentError(`CudaStream: options must be an object, got ${describe(options)}`, {
        argument: "options",
      });
    }
    if (GIVEN in options) {
      const given = options as GivenStream;
      this.device = deviceNamed(given.device);
      this.#handle = given[GIVEN];
      return;
    }
    const index = ordinalOf("CudaStream", options.device);
    this.device = deviceNamed(index);
    this.#pooled = takePooledStream(index, options.priority);
    this.#handle = this.#pooled.handle;
    leaked.register(this, this.#pooled, this);
  }

  /** `CUstream`; 0 is the default stream. */
  get handle(): number {
    if (this.#isDisposed) {
      throw new InvalidArgumentError(`the stream of cuda:${this.device.index} was disposed of`, {
        argument: "stream",
        code: "DISPOSED",
      });
    }
    return this.#handle;
  }

  /** Whether it was disposed of: it takes no more work, and what is in it goes on. */
  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  /** CUDA's number of its priority; undefined for the default stream and foreign ones. */
  get priority(): number | undefined {
    return this.#pooled?.priority;
  }

  /** Whether all that is in it is done. */
  query(): boolean {
    return isStreamDone(this.device.index, this.handle);
  }

  /** Waits until all that is in it now is done, without blocking this thread. */
  async synchronize(options?: WaitOptions): Promise<void> {
    using event = this.record();
    await event.synchronize(options);
  }

  /** Blocks until all that is in it is done. */
  synchronizeSync(options?: WaitOptions): void {
    blockUntilDone("CudaStream.synchronizeSync", options, () => this.query());
  }

  /** What is put into this stream from now on runs after what an event recorded, which may be of another device. */
  waitEvent(event: CudaEvent): void {
    const { handle } = requireEvent(event);
    const stream = this.handle;
    if (handle === undefined) return;
    requireSuccess(
      onDevice(this.device.index, (symbols) => symbols.cuStreamWaitEvent(stream, handle, 0)),
      "cuStreamWaitEvent",
    );
  }

  /** What is put into this stream from now on runs after what is in another one now. */
  waitStream(other: CudaStream): void {
    orderStreams(placeOf(requireStream("CudaStream.waitStream", other)), placeOf(this));
  }

  /** Records what is in it now in an event, a new one by default. */
  record(event: CudaEvent = new CudaEvent()): CudaEvent {
    requireEvent(event).record(this);
    return event;
  }

  /** Work in it goes on. A stream that is the current one of its device is replaced by the default stream. */
  [Symbol.dispose](): void {
    if (this.#pooled === undefined || this.#isDisposed) return;
    if (currentStreamOf(this.device) === this) setCurrentStreamOf(this.device, undefined);
    this.#isDisposed = true;
    leaked.unregister(this);
    givePooledStream(this.#pooled);
  }
}

export function placeOf({ device, handle }: Stream): StreamPlace {
  return { device: device.index, handle };
}

/** @throws InvalidArgumentError for what is not a stream, was disposed of, or is not of the device, if one is given. */
export function requireStream(caller: string, stream: unknown, index?: number): CudaStream {
  if (!(stream instanceof CudaStream)) {
    throw new InvalidArgumentError(`${caller}: stream must be a CudaStream, got ${describe(stream)}`, {
      argument: "stream",
    });
  }
  void stream.handle;
  if (index === undefined || stream.device.index === index) return stream;
  throw new InvalidArgumentError(
    `${caller}: the stream is of cuda:${stream.device.index}, it must be one of cuda:${index}`,
    { argument: "stream", code: "WRONG_DEVICE" },
  );
}

const defaults: CudaStream[] = [];

/** The default stream of a device: CUDA's legacy one, handle 0. c10d: `torch.cuda.default_stream`. */
export function defaultStream(device?: CudaDeviceLike): CudaStream {
  const index = ordinalOf("cuda.defaultStream", device);
  const stream = defaults[index] ?? new CudaStream({ [GIVEN]: 0, device: index } as CudaStreamOptions);
  defaults[index] = stream;
  return stream;
}

/** The stream that copies and ops of this thread use on a device. c10d: `torch.cuda.current_stream`. */
export function currentStream(device?: CudaDeviceLike): CudaStream {
  const index = ordinalOf("cuda.currentStream", device);
  const stream = currentStreamOf(deviceNamed(index));
  return stream instanceof CudaStream ? stream : defaultStream(index);
}

/** Makes a stream the current one of its device in this thread. c10d: `torch.cuda.set_stream`. */
export function setStream(stream: CudaStream): void {
  const { device, handle } = requireStream("cuda.setStream", stream);
  // Code that has no current stream uses the default one anyway.
  setCurrentStreamOf(device, handle === 0 ? undefined : stream);
}

/**
 * Calls a function with another current stream. For an async function, that is the part before its first `await`: the
 * stream belongs to the thread, and the code that runs meanwhile must not get it. c10d: `torch.cuda.stream`.
 */
export function withStream<T>(stream: CudaStream, body: () => T): T {
  const { device } = requireStream("cuda.withStream", stream);
  const before = currentStreamOf(device);
  setStream(stream);
  try {
    return body();
  } finally {
    const isGone = before instanceof CudaStream && before.isDisposed;
    setCurrentStreamOf(device, isGone ? undefined : before);
  }
}

/**
 * A stream that another library made and owns, by its `CUstream` or `cudaStream_t`; it has to exist. c10d:
 * `torch.cuda.ExternalStream`.
 * @throws InvalidArgumentError for what is no handle, or a stream of another device.
 */
export function foreignStream(handle: number, device?: CudaDeviceLike): CudaStream {
  const index = ordinalOf("cuda.foreignStream", device);
  if (!Number.isSafeInteger(handle) || handle < 0) {
    throw new InvalidArgumentError(
      `cuda.foreignStream: handle must be the number of a stream, got ${describe(handle)}`,
      {
        argument: "handle",
      },
    );
  }
  // 0 to 2 stand for the default streams of whichever context is current.
  if (handle > 2) {
    const context = words(2);
    requireSuccess(
      onDevice(index, (symbols) => symbols.cuStreamGetCtx(handle, context)),
      "cuStreamGetCtx",
    );
    if (wide(context) !== contextOf(index)) {
      throw new InvalidArgumentError(`cuda.foreignStream: this stream is not of the primary context of cuda:${index}`, {
        argument: "handle",
        code: "WRONG_DEVICE",
      });
    }
  }
  return new CudaStream({ [GIVEN]: handle, device: index } as CudaStreamOptions);
}
