import type { LibraryTimes } from "../work/index.ts";

/** Nanoseconds of a reading of `performance.now()`. */
const ns = (ms: number) => Math.round(ms * 1e6);

/** How an iteration spent its time, in nanoseconds; -1 for what was not measured. */
export interface IterationTimes {
  /** From the start of the forward pass to that of the backward pass. */
  readonly forwardCompute: number;
  /** Of the backward pass without waiting for exchanges at its end. */
  readonly backwardCompute: number;
  /** From the first exchange to the end of the last one. */
  readonly backwardComm: number;
  /** From the first exchange to the last gradient: PyTorch's measure of overlap, whether anything was exchanged then or not. */
  readonly overlap: number;
  /**
   * How long the native library exchanged buckets while gradients were still computed: communication that is hidden. Known
   * after `group.enableCollectivesTiming()`, for exchanges without a hook.
   */
  readonly hidden: number;
  /** From the last gradient to the end of the last exchange: communication that is waited for. */
  readonly waited: number;
  /** Unix times. */
  readonly forwardStart: number;
  readonly backwardStart: number;
  readonly computeEnd: number;
  readonly commStart: number;
  readonly commEnd: number;
}

/** The moments of one iteration, by `performance.now()`; -1 before they have come. */
export class IterationTimer {
  #forwardStart = -1;
  #backwardStart = -1;
  #computeEnd = -1;
  #commStart = -1;
  #commEnd = -1;
  #exchanged: readonly LibraryTimes[] = [];

  forwardStarts(): void {
    this.#forwardStart = performance.now();
    this.#backwardStart = this.#computeEnd = this.#commStart = this.#commEnd = -1;
  }

  backwardStarts(): void {
    this.#backwardStart = performance.now();
    this.#computeEnd = this.#commStart = this.#commEnd = -1;
  }

  computeEnds(): void {
    this.#computeEnd = performance.now();
  }

  communicationStarts(): void {
    if (this.#commStart < 0) this.#commStart = performance.now();
  }

  /** @param exchanged When the library exchanged buckets; none if that is unknown. */
  communicationEnds(exchanged: readonly LibraryTimes[]): void {
    this.#commEnd = performance.now();
    this.#exchanged = exchanged;
  }

  /** Nanoseconds since the backward pass began. */
  sinceBackwardStart(): number {
    return ns(performance.now() - this.#backwardStart);
  }

  get times(): IterationTimes {
    const between = (from: number, to: number) => (from < 0 || to < from ? -1 : ns(to - from));
    const unix = (moment: number) => (moment < 0 ? -1 : ns(performance.timeOrigin + moment));
    return {
      forwardCompute: between(this.#forwardStart, this.#backwardStart),
      backwardCompute: between(this.#backwardStart, this.#computeEnd),
      backwardComm: between(this.#commStart, this.#commEnd),
      overlap: between(this.#commStart, this.#computeEnd),
      hidden: this.#commEnd < 0 || this.#exchanged.length === 0 ? -1 : ns(timeUntil(this.#computeEnd, this.#exchanged)),
      waited: between(this.#computeEnd, this.#commEnd),
      forwardStart: unix(this.#forwardStart),
      backwardStart: unix(this.#backwardStart),
      computeEnd: unix(this.#computeEnd),
      commStart: unix(this.#commStart),
      commEnd: unix(this.#commEnd),
    };
  }
}

/** How long at least one of several things lasted, up to a moment. */
function timeUntil(end: number, all: readonly LibraryTimes[]): number {
  let total = 0;
  let covered = Number.NEGATIVE_INFINITY;
  for (const { startedMs, finishedMs } of all.toSorted((a, b) => a.startedMs - b.startedMs)) {
    const from = Math.max(startedMs, covered);
    const to = Math.min(finishedMs, end);
    if (to > from) total += to - from;
    covered = Math.max(covered, finishedMs);
  }
  return total;
}
