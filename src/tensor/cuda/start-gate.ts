import type { Device, Stream } from "../device.ts";
import { giveMark, type Mark, mark, waitForMark } from "./raw-events.ts";
import { givePooledStream, type PooledStream, takePooledStream } from "./stream-pool.ts";

/** What was in a stream when this was made, also if the stream was disposed of since. */
export class StreamMark implements Disposable {
  #mark: Mark | undefined;

  /** @throws InvalidArgumentError if the stream was disposed of, CudaError if the device fails. */
  constructor({ device, handle }: Stream) {
    this.#mark = mark({ device: device.index, handle });
  }

  /** Makes a stream wait for it. */
  holdUp({ device, handle }: Stream): void {
    if (this.#mark !== undefined) waitForMark({ device: device.index, handle }, this.#mark);
  }

  [Symbol.dispose](): void {
    if (this.#mark !== undefined) giveMark(this.#mark);
    this.#mark = undefined;
  }
}

/**
 * A stream for ops that are submitted later than they were called: it waits for the marks of their own streams, into
 * which more may have been put since. Work in it goes on when it is disposed of.
 */
export class StartGate implements Disposable {
  readonly stream: Stream;
  readonly #pooled: PooledStream;

  constructor(device: Device) {
    this.#pooled = takePooledStream(device.index, "normal");
    this.stream = { device, handle: this.#pooled.handle };
  }

  [Symbol.dispose](): void {
    givePooledStream(this.#pooled);
  }
}
