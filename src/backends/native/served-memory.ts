import { InvalidArgumentError } from "../../errors/index.ts";
import { Service } from "../../native/index.ts";
import { type Hold, holdTensors, releaseHolds, type TensorView } from "../../tensor/index.ts";
import type { Work } from "../../work/index.ts";

/** The service that begins what a service ends. */
const beginnings: ReadonlyMap<number, number> = new Map([
  [Service.DEREGISTER_MEMORY, Service.REGISTER_MEMORY],
  [Service.CLOSE_WINDOW, Service.OPEN_WINDOW],
]);

/** Keeps memory that a library has registered, or opened a window over, from being freed. */
export class ServedMemory {
  /** By service and address. */
  readonly #holds = new Map<string, readonly Hold[]>();
  /** Of services that have failed: the library may still use their memory until the group is freed. */
  readonly #uncertain: Hold[] = [];

  /**
   * Submits a service.
   * @throws what a tensor throws whose memory is gone, and what `submit` throws.
   */
  serve(service: number, memory: TensorView, submit: () => Work<void>): Work<void> {
    const begun = beginnings.get(service);
    if (begun !== undefined) {
      const work = submit();
      work.whenEnded(() => {
        if (work.isSuccess()) this.#release(keyOf(begun, memory));
      });
      return work;
    }
    const holds = holdTensors([memory]);
    let work: Work<void>;
    try {
      work = submit();
    } catch (error) {
      releaseHolds(holds);
      throw error;
    }
    work.whenEnded(() => {
      if (work.isSuccess()) this.#holds.set(keyOf(service, memory), holds);
      else if (work.exception() instanceof InvalidArgumentError) releaseHolds(holds);
      else this.#uncertain.push(...holds);
    });
    return work;
  }

  #release(key: string): void {
    releaseHolds(this.#holds.get(key) ?? []);
    this.#holds.delete(key);
  }

  /** When native code has let go of everything. */
  releaseAll(): void {
    for (const key of [...this.#holds.keys()]) this.#release(key);
    releaseHolds(this.#uncertain.splice(0));
  }
}

function keyOf(service: number, { ptr }: TensorView): string {
  return `${service} ${ptr}`;
}
