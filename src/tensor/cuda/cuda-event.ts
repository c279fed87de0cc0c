import { brand, describe, InvalidArgumentError } from "../../errors/index.ts";
import type { Device } from "../device.ts";
import { contextOf, onDevice } from "./contexts.ts";
import type { CudaStream } from "./cuda-stream.ts";
import { deviceNamed } from "./device-ordinal.ts";
import { blockUntilDone, type WaitOptions, whenDone } from "./device-wait.ts";
import { driver, requireSuccess, words } from "./driver.ts";
import { createEvent, isEventDone, type Mark } from "./raw-events.ts";

/** Options of a {@link CudaEvent}. */
export interface CudaEventOptions {
  /** Whether `elapsedMs()` can use it. Default is `false`. */
  readonly timing?: boolean | undefined;
}

const leaked = new FinalizationRegistry<Mark>(destroy);

/** Destroys an event. The driver keeps what a stream still waits for; what fails is told to whoever uses the device. */
function destroy({ device, event }: Mark): void {
  const { symbols } = driver();
  if (symbols.cuCtxSetCurrent(contextOf(device)) === 0) symbols.cuEventDestroy_v2(event);
}

/**
 * A place in a stream, to be waited for. It belongs to the device of the stream that it is first recorded in.
 *
 * c10d: `torch.cuda.Event`.
 */
export class CudaEvent implements Disposable {
  static {
    brand(CudaEvent, "CudaEvent");
  }
  /** Whether `elapsedMs()` can use it. */
  readonly isTimed: boolean;
  #event: Mark | undefined;
  #isDisposed = false;

  constructor(options: CudaEventOptions = {}) {
    const timing: unknown = options?.timing ?? false;
    if (typeof timing !== "boolean") {
      throw new InvalidArgumentError(`CudaEvent: timing must be true or false, got ${describe(timing)}`, {
        argument: "timing",
      });
    }
    this.isTimed = timing;
  }

  /** Its device; undefined before it is first recorded. */
  get device(): Device | undefined {
    return this.#event === undefined ? undefined : deviceNamed(this.#event.device);
  }

  /** `CUevent`; undefined before it is first recorded. */
  get handle(): number | undefined {
    this.#requireLive("handle");
    return this.#event?.event;
  }

  /** Records what is in a stream now. Whoever waits for the event from now on waits for that. */
  record(stream: CudaStream): void {
    this.#requireLive("record");
    const { device, handle } = stream;
    const own = this.#event?.device ?? device.index;
    if (own !== device.index) {
      throw new InvalidArgumentError(
        `CudaEvent.record: the event is of cuda:${own}, the stream of cuda:${device.index}; make an event for each device`,
        { argument: "stream", code: "WRONG_DEVICE" },
      );
    }
    if (this.#event === undefined) {
      this.#event = { device: own, event: createEvent(own, this.isTimed) };
      leaked.register(this, this.#event, this);
    }
    const { event } = this.#event;
    requireSuccess(
      onDevice(own, (symbols) => symbols.cuEventRecord(event, handle)),
      "cuEventRecord",
    );
  }

  /** Whether what it recorded is done; `true` if it has recorded nothing. */
  query(): boolean {
    this.#requireLive("query");
    return this.#event === undefined || isEventDone(this.#event);
  }

  /** Waits until what it recorded is done, without blocking this thread. */
  async synchronize(options?: WaitOptions): Promise<void> {
    await whenDone("CudaEvent.synchronize", options, () => this.query());
  }

  /** Blocks until what it recorded is done. */
  synchronizeSync(options?: WaitOptions): void {
    blockUntilDone("CudaEvent.synchronizeSync", options, () => this.query());
  }

  /**
   * Milliseconds from this event to a later one, as the device measured them, to about half a microsecond.
   * @throws InvalidArgumentError unless both have timing, were recorded on one device, and are done (`EVENT_PENDING`).
   */
  elapsedMs(end: CudaEvent): number {
    const [from, to] = [this.#timed("this event"), requireEvent(end).#timed("the other event")];
    if (from.device !== to.device) {
      throw new InvalidArgumentError("CudaEvent.elapsedMs: the events are of different devices", {
        argument: "end",
        code: "WRONG_DEVICE",
      });
    }
    const result = words(2);
    requireSuccess(driver().symbols.cuEventElapsedTime(result, from.event, to.event), "cuEventElapsedTime");
    return new Float32Array(result.buffer)[0] ?? Number.NaN;
  }

  #timed(which: string): Mark {
    const fail = (reason: string, code: string): never => {
      throw new InvalidArgumentError(`CudaEvent.elapsedMs: ${which} ${reason}`, { argument: "end", code });
    };
    if (!this.isTimed) return fail("has no timing: make it with { timing: true }", "NO_TIMING");
    this.#requireLive("elapsedMs");
    const event = this.#event;
    if (event === undefined) return fail("was not recorded", "EVENT_PENDING");
    if (!isEventDone(event)) return fail("is not done: wait for it first", "EVENT_PENDING");
    return event;
  }

  #requireLive(method: string): void {
    if (!this.#isDisposed) return;
    throw new InvalidArgumentError(`CudaEvent.${method}: the event was disposed of`, { code: "DISPOSED" });
  }

  /** Destroys the event. What already waits for it goes on waiting for what it recorded. */
  [Symbol.dispose](): void {
    const event = this.#event;
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    leaked.unregister(this);
    if (event !== undefined) destroy(event);
  }
}

/** @throws InvalidArgumentError for what is not an event. */
export function requireEvent(event: unknown): CudaEvent {
  if (event instanceof CudaEvent) return event;
  throw new InvalidArgumentError(`event must be a CudaEvent, got ${describe(event)}`, { argument: "event" });
}
