import type { Device, Stream } from "../../tensor/index.ts";

/** What was in a stream at some time. */
export interface Mark extends Disposable {
  /** Makes a stream wait for it. */
  holdUp(stream: Stream): void;
}

/** A stream of nobody else's. */
export interface Gate extends Disposable {
  readonly stream: Stream;
}

/** By which an op that is submitted late starts after what was in its stream when it was called, and no later. */
export interface OpStreams {
  mark(stream: Stream): Mark;
  gate(device: Device): Gate;
}
