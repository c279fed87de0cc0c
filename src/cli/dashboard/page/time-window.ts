/** Factor of one step. */
export const ZOOM = 1.5;
const MIN_SPAN_MS = 0.05;
const MAX_SPAN_MS = 3_600_000;

/** The part of time that the timeline shows: the last seconds, or, when it is paused, from one moment to another. */
export class TimeWindow {
  #spanMs = 10_000;
  #pausedAt: number | undefined;

  get spanMs(): number {
    return this.#spanMs;
  }

  get isPaused(): boolean {
    return this.#pausedAt !== undefined;
  }

  from(now: number): number {
    return this.to(now) - this.#spanMs;
  }

  to(now: number): number {
    // Some room, so that what happens now is not at the edge.
    return this.#pausedAt ?? now + this.#spanMs * 0.02;
  }

  pause(now: number): void {
    this.#pausedAt ??= this.to(now);
  }

  follow(): void {
    this.#pausedAt = undefined;
  }

  /** Moves by a part of what is shown. */
  pan(part: number, now: number): void {
    this.#pausedAt = Math.min(this.to(now) + part * this.#spanMs, now + this.#spanMs * 0.9);
  }

  /** Shows `factor` times as much. While the timeline is paused, what is at `place` (0 to 1) stays there. */
  zoom(factor: number, place = 0.5): void {
    const before = this.#spanMs;
    this.#spanMs = Math.min(MAX_SPAN_MS, Math.max(MIN_SPAN_MS, before * factor));
    if (this.#pausedAt !== undefined) this.#pausedAt += (1 - place) * (this.#spanMs - before);
  }

  /** Shows what is between two times, with some room. */
  show(from: number, to: number): void {
    const room = Math.max((to - from) * 0.25, MIN_SPAN_MS / 4);
    this.#spanMs = Math.min(MAX_SPAN_MS, to - from + 2 * room);
    this.#pausedAt = to + room;
  }

  /** Moves as little as is needed to show a time. */
  reveal(from: number, to: number, now: number): void {
    const [first, last] = [this.from(now), this.to(now)];
    this.pause(now);
    if (to < first || from > last || (from < first && to - from < this.#spanMs)) {
      this.#pausedAt = Math.min(from, to) + this.#spanMs * 0.7;
    }
  }
}

/** Distance of the marks of an axis: 1, 2 or 5 times a power of ten, at least `least`. */
export function tickMs(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  return ([1, 2, 5].find((each) => each * power >= least) ?? 10) * power;
}

/** A time with as many digits as marks at this distance need: `12.5 s`. */
export function timeText(ms: number, stepMs: number): string {
  const digits = Math.max(0, Math.min(6, 3 - Math.floor(Math.log10(stepMs))));
  return `${(ms / 1_000).toFixed(digits)} s`;
}
