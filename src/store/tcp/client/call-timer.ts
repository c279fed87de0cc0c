import { msUntil, startTimer, type Timer } from "../../../time/index.ts";
import type { AnyCall } from "./call.ts";

/** Ends calls whose deadline has passed, with one timer for all of them. */
export class CallTimer {
  readonly #pending: () => readonly AnyCall[];
  readonly #end: (call: AnyCall) => void;
  #timer: Timer | undefined;
  #firesAt = Number.POSITIVE_INFINITY;

  /** `pending` returns the calls that may have to end, `end` ends one. */
  constructor(pending: () => readonly AnyCall[], end: (call: AnyCall) => void) {
    this.#pending = pending;
    this.#end = end;
  }

  /** Makes sure that the timer fires at this deadline. */
  watch(deadline: number): void {
    if (deadline >= this.#firesAt) return;
    this.#timer?.[Symbol.dispose]();
    this.#firesAt = deadline;
    this.#timer = startTimer(msUntil(deadline), () => this.#expire());
    // The socket keeps the process alive as long as a call waits.
    this.#timer.unref();
  }

  stop(): void {
    this.#timer?.[Symbol.dispose]();
  }

  #expire(): void {
    this.#firesAt = Number.POSITIVE_INFINITY;
    const now = performance.now();
    let next = Number.POSITIVE_INFINITY;
    for (const call of this.#pending()) {
      if (!call.live || call.limit === undefined) continue;
      if (call.limit.deadline > now) next = Math.min(next, call.limit.deadline);
      else this.#end(call);
    }
    this.watch(next);
  }
}
