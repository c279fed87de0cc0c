import { type CudaStream, cuda, type Device } from "../../tensor/index.ts";

/**
 * The stream of a device in which a reducer copies gradients into buckets and averages out of them: so that an exchange
 * waits for its gradients only, and not for what is computed after them.
 */
export class CopyStream {
  readonly stream: CudaStream;

  constructor(device: Device) {
    this.stream = new cuda.CudaStream({ device, priority: "high" });
  }

  /** Its copies from now on come after what is in the current stream now. */
  follow(): void {
    this.stream.waitStream(this.current);
  }

  /** What is put into a stream from now on comes after its copies so far. */
  precede(stream: CudaStream): void {
    stream.waitStream(this.stream);
  }

  /** The current stream of the device. */
  get current(): CudaStream {
    return cuda.currentStream(this.stream.device);
  }

  /** Calls a function whose ops, until its first `await`, are in this stream. */
  run<T>(body: () => T): T {
    return cuda.withStream(this.stream, body);
  }

  /** Resolves when its copies so far are done, without blocking this thread. */
  done(): Promise<void> {
    return this.stream.synchronize();
  }
}

const nothing = () => {};

/** The streams of a reducer, one for each device that has parameters. */
export class CopyStreams {
  readonly #streams = new Map<number, CopyStream>();

  /** Whether no parameter is on a device. */
  get isEmpty(): boolean {
    return this.#streams.size === 0;
  }

  /** The stream of a device; undefined for the CPU. */
  of(device: Device): CopyStream | undefined {
    if (device.type === "cpu") return undefined;
    const stream = this.#streams.get(device.index) ?? new CopyStream(device);
    this.#streams.set(device.index, stream);
    return stream;
  }

  /**
   * Copies from now on come after what is in the current streams now.
   * @returns Lets what is put into those streams come after the copies until then.
   */
  follow(): () => void {
    if (this.isEmpty) return nothing;
    const followed = [...this.#streams.values()].map((each) => ({ each, current: each.current }));
    for (const { each } of followed) each.follow();
    return () => {
      for (const { each, current } of followed) each.precede(current);
    };
  }
}
