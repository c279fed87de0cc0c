import type { AnyCall } from "./call.ts";

/** Ends calls whose limit is over, with one timer for all of them. */
export class CallTimer {
  readonly #pending: () => readonly AnyCall[];
  readonly #end: (call: AnyCall) => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #firesAt = Number.POSITIVE_INFINITY;

  /** `pending` gives the calls that may have to end, `end` ends one. */
  constructor(pending: () => readonly AnyCall[], end: (call: AnyCall) => void) {
    this.#pending = pending;
    this.#end = end;
  }

  /** There is a call with this deadline. */
  watch(deadline: number): void {
    if (deadline >= this.#firesAt) return;
    clearTimeout(this.#timer);
    this.#firesAt = deadline;
    const delay = Math.min(Math.max(deadline - performance.now(), 0), 0x7fff_ffff);
    this.#timer = setTimeout(() => this.#expire(), delay);
    // The socket holds the process as long as somebody waits.
    this.#timer.unref();
  }

  stop(): void {
    clearTimeout(this.#timer);
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
