/** Words of the state. */
const WORDS = 624;
/** How far apart the words are that are combined. */
const OFFSET = 397;
const UPPER = 0x8000_0000 | 0;
const LOWER = 0x7fff_ffff;
const TWIST = 0x9908_b0df | 0;

/** The Mersenne Twister of Matsumoto and Nishimura with 32-bit output, as PyTorch and numpy have it. */
export class Mt19937 {
  /** Signed, since these are JavaScript's fast integers. */
  readonly #state = new Int32Array(WORDS);
  #next = WORDS;

  constructor(seed: number) {
    this.seed(seed);
  }

  /** Starts the sequence of a seed, of which the lower 32 bits count. */
  seed(seed: number): void {
    const state = this.#state;
    let word = seed | 0;
    state[0] = word;
    for (let i = 1; i < WORDS; i++) {
      word = (Math.imul(1_812_433_253, word ^ (word >>> 30)) + i) | 0;
      state[i] = word;
    }
    this.#next = WORDS;
  }

  /** The next number of the sequence, in 0 … 2^32 - 1. */
  next(): number {
    if (this.#next === WORDS) this.#refill();
    let word = this.#state[this.#next++] ?? 0;
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c_5680;
    word ^= (word << 15) & 0xefc6_0000;
    word ^= word >>> 18;
    return word >>> 0;
  }

  #refill(): void {
    const state = this.#state;
    let word = state[0] ?? 0;
    for (let i = 0; i < WORDS; i++) {
      const following = state[i + 1 < WORDS ? i + 1 : 0] ?? 0;
      const mixed = (word & UPPER) | (following & LOWER);
      const far = state[i < WORDS - OFFSET ? i + OFFSET : i + OFFSET - WORDS] ?? 0;
      state[i] = far ^ (mixed >>> 1) ^ (following & 1 ? TWIST : 0);
      word = following;
    }
    this.#next = 0;
  }
}
