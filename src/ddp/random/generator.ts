import { brand, describeNumber, InvalidArgumentError } from "../../errors/index.ts";
import { Mt19937 } from "./mt19937.ts";

/** PyTorch's seed of a generator that is given none. */
const DEFAULT_SEED = 67_280_421_310_721n;
const SMALLEST_SEED = -(1n << 63n);
const LARGEST_SEED = (1n << 64n) - 1n;

/**
 * Random numbers with the bits of PyTorch's CPU generator: after the same seed and the same calls, both give the same
 * numbers.
 *
 * c10d: `torch.Generator`.
 */
export class Generator {
  static {
    brand(Generator, "Generator");
  }
  readonly #engine = new Mt19937(0);
  #seed = 0n;
  /** The second number of a pair, which {@link normal} has still to return. */
  #normal: number | undefined;

  /**
   * @param seed As for {@link manualSeed}; PyTorch's default if it is not given.
   * @throws InvalidArgumentError as {@link manualSeed} does.
   */
  constructor(seed: number | bigint = DEFAULT_SEED) {
    this.manualSeed(seed);
  }

  /**
   * Starts the sequence of a seed, and returns this generator.
   *
   * @param seed An integer in -2^63 … 2^64 - 1; from 2^53 on it has to be a bigint. As in PyTorch only its lower 32 bits
   *   count, in two's complement if it is negative: 2^32 + 1 starts the sequence of 1, and -1 that of 2^32 - 1.
   * @throws InvalidArgumentError if it is not such an integer.
   *
   * c10d: `Generator.manual_seed`.
   */
  manualSeed(seed: number | bigint): this {
    const wide = requireSeed("manualSeed", seed);
    if (wide < SMALLEST_SEED || wide > LARGEST_SEED) {
      throw new InvalidArgumentError(`manualSeed: seed must be in -2^63 to 2^64 - 1, got ${seed}`, {
        argument: "seed",
      });
    }
    this.#seed = BigInt.asUintN(64, wide);
    this.#normal = undefined;
    this.#engine.seed(Number(BigInt.asUintN(32, wide)));
    return this;
  }

  /** The seed as 64 bits without sign: 2^64 - 1 for -1. c10d: `Generator.initial_seed`. */
  initialSeed(): bigint {
    return this.#seed;
  }

  /** The next 32 bits, in 0 … 2^32 - 1. c10d: `CPUGeneratorImpl::random`. */
  random(): number {
    return this.#engine.next();
  }

  /** The next 64 bits: two draws of 32, the upper ones first. c10d: `CPUGeneratorImpl::random64`. */
  random64(): bigint {
    const upper = BigInt(this.#engine.next());
    return (upper << 32n) | BigInt(this.#engine.next());
  }

  /** A multiple of 2^-24 in [0, 1), of one draw of 32 bits. c10d: `torch.rand` of float32. */
  uniform(): number {
    return (this.#engine.next() & 0xff_ffff) * 2 ** -24;
  }

  /** A multiple of 2^-53 in [0, 1), of two draws of 32 bits. c10d: `torch.rand` of float64. */
  uniformDouble(): number {
    const upper = this.#engine.next() & 0x1f_ffff;
    return (upper * 2 ** 32 + this.#engine.next()) * 2 ** -53;
  }

  /**
   * A number of the standard normal distribution. They are made in pairs, by the method of Box and Muller: every other
   * call draws 128 bits.
   *
   * c10d: `at::normal_distribution<double>`.
   */
  normal(): number {
    const second = this.#normal;
    if (second !== undefined) {
      this.#normal = undefined;
      return second;
    }
    const angle = 2 * Math.PI * this.uniformDouble();
    const radius = Math.sqrt(-2 * Math.log1p(-this.uniformDouble()));
    this.#normal = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }
}

/** An integer as a bigint. */
export function requireSeed(caller: string, seed: number | bigint): bigint {
  if (typeof seed === "bigint" || Number.isSafeInteger(seed)) return BigInt(seed);
  const advice = typeof seed === "number" && Number.isInteger(seed) ? ", which is not exact: write it as a bigint" : "";
  throw new InvalidArgumentError(`${caller}: seed must be an integer, got ${describeNumber(seed)}${advice}`, {
    argument: "seed",
  });
}
