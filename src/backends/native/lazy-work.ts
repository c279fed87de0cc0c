import { UnsupportedOperationError } from "../../errors/index.ts";
import { currentStreamOf, type Device, setCurrentStreamOf } from "../../tensor/index.ts";
import { DeferredWork, type Work, type WorkInit } from "../../work/index.ts";

/** The stream that an op was called in. */
export interface StreamOfCall {
  readonly device: Device;
  readonly handle: number;
}

/** Why an op waits, for errors. */
export interface Awaited {
  /** What is made before, e.g. "its communicator". */
  readonly what: string;
  readonly remedy: string;
}

/** An op on a device that is submitted later than it is called, by code that runs on this thread. */
export class LazyWork extends DeferredWork {
  readonly #stream: StreamOfCall | undefined;
  readonly #awaited: Awaited;
  #isSubmitted = false;

  /** @param stream What {@link synchronize} makes wait if no stream is current then. */
  constructor(init: WorkInit, stream: StreamOfCall | undefined, awaited: Awaited) {
    super(init, () => ahead(awaited));
    this.#stream = stream;
    this.#awaited = awaited;
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
        `${this.describe()} cannot be synchronized with yet: ${this.#awaited.what} is still being made, by code that runs on ` +
          `this thread, so that no stream can wait for the op: ${this.#awaited.remedy}`,
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

function ahead({ what, remedy }: Awaited): never {
  throw new UnsupportedOperationError(
    `this op waits: ${what} is still being made, by code that runs on this thread: ${remedy}`,
    { code: "WAIT_WOULD_DEADLOCK" },
  );
}
