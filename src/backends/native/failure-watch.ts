import { type BackendContext, scheduleOn } from "../../registry/index.ts";
import { firstFailure } from "./failure-report.ts";

/** How long a call of the store may take. */
const LOOK_LIMIT_MS = 5_000;

/**
 * Looks whether another rank has reported that the group has failed, while ops are in flight: for a library such as
 * NCCL, whose ranks do not notice that another one has given up.
 */
export class FailureWatch implements Disposable {
  readonly #context: Pick<BackendContext, "store" | "clock" | "rank" | "size">;
  readonly #inFlight: () => number;
  readonly #onFailure: (reason: string) => void;
  readonly #intervalMs: number;
  #timer: Disposable | undefined;
  #isOver = false;

  /**
   * @param intervalMs How often the store is asked; most ops end before it is asked once.
   * @param onFailure Called once, with what the other rank reported.
   */
  constructor(
    context: Pick<BackendContext, "store" | "clock" | "rank" | "size">,
    intervalMs: number,
    inFlight: () => number,
    onFailure: (reason: string) => void,
  ) {
    this.#context = context;
    this.#intervalMs = intervalMs;
    this.#inFlight = inFlight;
    this.#onFailure = onFailure;
    this.#isOver = context.size === 1;
  }

  /** To be called for each op. */
  begin(): void {
    if (this.#timer !== undefined || this.#isOver) return;
    this.#timer = scheduleOn(this.#context.clock, this.#intervalMs, () => void this.#look());
  }

  async #look(): Promise<void> {
    const { store, rank } = this.#context;
    const isBusy = this.#inFlight() > 0;
    // A store that does not answer may come back.
    const report = isBusy ? await firstFailure(store, LOOK_LIMIT_MS).catch(() => undefined) : undefined;
    this.#timer = undefined;
    if (this.#isOver) return;
    if (report === undefined || report.rank === rank) {
      if (isBusy) this.begin();
      return;
    }
    this.#isOver = true;
    this.#onFailure(`rank ${report.rank}: ${report.text}`);
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    this.#timer?.[Symbol.dispose]();
  }
}
