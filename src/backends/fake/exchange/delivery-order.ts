import { callUserCode } from "../../../errors/index.ts";

/**
 * When results reach the ranks. Without a seed: at once. With one: one delivery per turn of the event loop, picked from
 * all that are due by a pseudo-random number, so that the same program with the same seed sees the same interleaving.
 */
export class DeliveryOrder {
  readonly seed: number | undefined;
  readonly #due: (() => void)[] = [];
  #state: number;
  #scheduled = false;

  constructor(seed: number | undefined) {
    this.seed = seed;
    this.#state = seed ?? 0;
  }

  add(deliver: () => void): void {
    if (this.seed === undefined) {
      callUserCode(deliver);
      return;
    }
    this.#due.push(deliver);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled || this.#due.length === 0) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      const [deliver] = this.#due.splice(Math.floor(this.#random() * this.#due.length), 1);
      if (deliver !== undefined) callUserCode(deliver);
      this.#schedule();
    });
  }

  /** From 0 to below 1: the "mulberry32" generator. */
  #random(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }
}
