import type { RankStatus } from "../../status/index.ts";
import { startTimer, type Timer } from "../../time/index.ts";

/** How often the records of the ranks here are read. */
const LOOK_MS = 1_000;
/** An op, or the making of a group, that is pending for this long may wait for a rank on another node. */
const STALL_MS = 1_000;
/** Longest pause between two questions, which get rarer while an op stays pending. */
const MAX_PAUSE_MS = 30_000;

export interface StallWatchOptions {
  /** What the ranks of this node are doing. */
  readonly own: () => readonly RankStatus[];
  /** Asks the other nodes. Never rejects. */
  readonly ask: () => Promise<readonly RankStatus[]>;
  readonly tell: (others: readonly RankStatus[]) => void;
}

/**
 * While a rank of this node waits in an op or for a new group, asks the other nodes what their ranks are doing, for its errors to say. A
 * job without stalls asks nothing.
 */
export class StallWatch implements Disposable {
  readonly #options: StallWatchOptions;
  #timer: Timer | undefined;
  #pauseMs = LOOK_MS;
  #isEnded = false;

  constructor(options: StallWatchOptions) {
    this.#options = options;
    this.#lookAfter(LOOK_MS);
  }

  #lookAfter(ms: number): void {
    if (this.#isEnded) return;
    this.#timer = startTimer(ms, () => void this.#look());
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    const { own, ask, tell } = this.#options;
    if (!own().some(isStalled)) {
      this.#pauseMs = LOOK_MS;
      this.#lookAfter(LOOK_MS);
      return;
    }
    const others = await ask();
    if (this.#isEnded) return;
    tell(others);
    this.#lookAfter(this.#pauseMs);
    this.#pauseMs = Math.min(2 * this.#pauseMs, MAX_PAUSE_MS);
  }

  [Symbol.dispose](): void {
    this.#isEnded = true;
    this.#timer?.[Symbol.dispose]();
  }
}

function isStalled({ inFlight, making, at, process }: RankStatus): boolean {
  const waits = making === undefined ? inFlight : [...inFlight, making];
  return process !== "gone" && waits.some(({ began }) => at - began >= STALL_MS);
}
