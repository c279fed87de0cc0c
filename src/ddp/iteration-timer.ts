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
  /** The part of that during which gradients were still computed: communication that is hidden. */
  readonly overlap: number;
  /** The part of that after the last gradient: communication that is waited for. */
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

  communicationEnds(): void {
    this.#commEnd = performance.now();
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
      waited: between(this.#computeEnd, this.#commEnd),
      forwardStart: unix(this.#forwardStart),
      backwardStart: unix(this.#backwardStart),
      computeEnd: unix(this.#computeEnd),
      commStart: unix(this.#commStart),
      commEnd: unix(this.#commEnd),
    };
  }
}
