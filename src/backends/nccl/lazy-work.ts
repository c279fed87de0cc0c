import { UnsupportedOperationError } from "../../errors/index.ts";
import { currentStreamOf, type Device, setCurrentStreamOf } from "../../tensor/index.ts";
import { DeferredWork, type Work, type WorkInit } from "../../work/index.ts";

/** The stream that an op was called in. */
export interface StreamOfCall {
  readonly device: Device;
  readonly handle: number;
}

const REMEDY = "await the Work, or connect first (initProcessGroup({ deviceId }) does)";

/** An op that waits for its communicator. */
export class LazyWork extends DeferredWork {
  readonly #stream: StreamOfCall | undefined;
  #isSubmitted = false;

  /** @param stream What {@link synchronize} makes wait if no stream is current then. */
  constructor(init: WorkInit, stream: StreamOfCall | undefined) {
    super(init, ahead);
    this.#stream = stream;
  }

  /** Whether it has been passed on. */
  protected get isSubmitted(): boolean {
    return this.#isSubmitted;
  }

  override follow(actual: Work<unknown>): void {
    this.#isSubmitted = true;
    super.follow(actual);
  }

  override synchronize(): void {
    const stream = this.#stream;
    if (!this.#isSubmitted) {
      const error = this.isCompleted() ? this.exception() : undefined;
      if (error !== undefined) throw error;
      throw new UnsupportedOperationError(
        `${this.describe()} cannot be synchronized with yet: its communicator is still being made, by code that runs on ` +
          `this thread, so that no stream can wait for the op: ${REMEDY}`,
        { code: "NOT_SUBMITTED" },
      );
    }
    // It was passed on in another stream than that of its call.
    if (stream === undefined || currentStreamOf(stream.device) !== undefined) {
      super.synchronize();
      return;
    }
    setCurrentStreamOf(stream.device, stream);
    try {
      super.synchronize();
    } finally {
      setCurrentStreamOf(stream.device, undefined);
    }
  }
}

function ahead(): never {
  throw new UnsupportedOperationError(
    `the communicator of this op is still being made, by code that runs on this thread: ${REMEDY}`,
    { code: "WAIT_WOULD_DEADLOCK" },
  );
}
