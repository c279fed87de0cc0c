import { brand, describeNumber, InvalidArgumentError } from "../../errors/index.ts";
import { Mt19937 } from "./mt19937.ts";

const LARGEST = 0xffff_ffff;

/**
 * The sequence of numpy's legacy generator, with which PyTorch's PowerSGD hook seeds its matrices.
 *
 * c10d: `numpy.random.RandomState`.
 */
export class RandomState {
  static {
    brand(RandomState, "RandomState");
  }
  readonly #engine: Mt19937;

  /** @throws InvalidArgumentError unless the seed is an integer in 0 … 2^32 - 1. */
  constructor(seed: number) {
    if (!Number.isInteger(seed) || seed < 0 || seed > LARGEST) {
      throw new InvalidArgumentError(
        `RandomState: Seed must be between 0 and 2**32 - 1, and an integer, got ${describeNumber(seed)}`,
        { argument: "seed" },
      );
    }
    this.#engine = new Mt19937(seed);
  }

  /**
   * A random integer in 0 … `high` - 1.
   *
   * @throws InvalidArgumentError unless `high` is an integer in 1 … 2^32.
   *
   * c10d: `RandomState.randint(high)`.
   */
  randint(high: number): number {
    if (!Number.isInteger(high) || high <= 0 || high > LARGEST + 1) {
      throw new InvalidArgumentError(
        `randint: high must be an integer in 1 to 2^32, got ${describeNumber(high)}${high <= 0 ? " (high <= 0)" : ""}`,
        { argument: "high" },
      );
    }
    const largest = high - 1;
    if (largest === 0) return 0;
    // Numbers with too many bits are cut, and those that are still too large drawn again.
    const cut = Math.clz32(largest);
    for (;;) {
      const number = (this.#engine.next() << cut) >>> cut;
      if (number <= largest) return number;
    }
  }
}
