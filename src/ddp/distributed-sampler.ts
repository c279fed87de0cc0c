import { type OptionNames, requireOptionNames } from "../collectives/option-names.ts";
import { requireFlag } from "../collectives/validate.ts";
import { getRank, getWorldSize } from "../distributed/queries.ts";
import { brand, describe, describeNumber, InvalidArgumentError } from "../errors/index.ts";
import type { ProcessGroup } from "../process-group/index.ts";
import { Generator, requireSeed } from "./random/generator.ts";
import { randperm } from "./random/randperm.ts";

/** Options of {@link DistributedSampler}. */
export interface DistributedSamplerOptions {
  /** Group whose ranks share the dataset; by default the default group. Not used if `worldSize` and `rank` are given. */
  readonly group?: ProcessGroup;
  /** Number of ranks that share the dataset; by default those of the group. c10d: `num_replicas`. */
  readonly worldSize?: number;
  /** Which of them this one is; by default its rank in the group. */
  readonly rank?: number;
  /** Whether the order is random, and another one in each epoch. Default: true. */
  readonly shuffle?: boolean;
  /** Seed of the order, the same on all ranks; from 2^53 on a bigint. Default: 0. */
  readonly seed?: number | bigint;
  /**
   * If the dataset cannot be divided evenly, whether ranks leave out the last indices (`true`) or take some of the first
   * once more (`false`). Default: false.
   */
  readonly dropLast?: boolean;
}

const optionNames: OptionNames<DistributedSamplerOptions> = {
  group: true,
  worldSize: true,
  rank: true,
  shuffle: true,
  seed: true,
  dropLast: true,
};

/** Indices are 32-bit. */
const LONGEST = 2 ** 32;

/**
 * The indices of a dataset that are this rank's in an epoch: as many as every other rank has, and the same as PyTorch's
 * sampler gives that rank for the same seed and epoch, so that ranks of both can share a dataset.
 *
 * Call {@link setEpoch} before each epoch; without it, all have the same order.
 *
 * ```ts
 * const sampler = new DistributedSampler(images, { seed: 42 });
 * for (let epoch = 0; epoch < epochs; epoch++) {
 *   sampler.setEpoch(epoch);
 *   for (const index of sampler) train(images[index]);
 * }
 * ```
 *
 * c10d: `torch.utils.data.distributed.DistributedSampler`.
 */
export class DistributedSampler implements Iterable<number> {
  static {
    brand(DistributedSampler, "DistributedSampler");
  }
  readonly worldSize: number;
  readonly rank: number;
  readonly shuffle: boolean;
  readonly seed: number | bigint;
  readonly dropLast: boolean;
  /** Number of indices of each rank. */
  readonly numSamples: number;
  /** Number of indices of all ranks: the length of the dataset, made divisible by `worldSize`. */
  readonly totalSize: number;
  readonly #datasetLength: number;
  #epoch = 0;

  /**
   * @param dataset Number of elements of the dataset, or anything with a `length`, which is read once.
   * @throws InvalidArgumentError for a length that is not an integer in 0 … 2^32, a rank that is not in
   *   0 … `worldSize` - 1, a seed that is no integer, or if the group is needed and there is none (`NOT_INITIALIZED`).
   */
  constructor(dataset: number | { readonly length: number }, options: DistributedSamplerOptions = {}) {
    requireOptionNames("DistributedSampler", options, optionNames);
    const { group, worldSize, rank, shuffle = true, seed = 0, dropLast } = options;
    if (group === null) refuse("group", "group must be one that this rank is in, got null");
    this.#datasetLength = lengthOf(dataset);
    this.worldSize = worldSize ?? getWorldSize(group);
    this.rank = rank ?? getRank(group);
    if (!Number.isSafeInteger(this.worldSize) || this.worldSize < 1) {
      refuse("worldSize", `worldSize must be a positive integer, got ${describeNumber(this.worldSize)}`);
    }
    if (!Number.isInteger(this.rank) || this.rank < 0 || this.rank >= this.worldSize) {
      const shown = describeNumber(this.rank);
      refuse("rank", `Invalid rank ${shown}, rank should be in the interval [0, ${this.worldSize - 1}]`);
    }
    requireSeed("DistributedSampler", seed);
    this.shuffle = requireFlag("DistributedSampler", "shuffle", shuffle);
    this.seed = seed;
    this.dropLast = requireFlag("DistributedSampler", "dropLast", dropLast);
    const share = this.#datasetLength / this.worldSize;
    this.numSamples = this.dropLast ? Math.floor(share) : Math.ceil(share);
    this.totalSize = this.numSamples * this.worldSize;
  }

  /** Number of indices of this rank: {@link numSamples}. c10d: `len(sampler)`. */
  get length(): number {
    return this.numSamples;
  }

  /** What {@link setEpoch} set; 0 before. */
  get epoch(): number {
    return this.#epoch;
  }

  /**
   * Sets the epoch, which determines the random order together with the seed; the same on all ranks.
   *
   * @throws InvalidArgumentError unless it is an integer.
   *
   * c10d: `DistributedSampler.set_epoch`.
   */
  setEpoch(epoch: number): void {
    if (!Number.isSafeInteger(epoch)) {
      refuse("epoch", `setEpoch takes an integer, got ${describeNumber(epoch)}`);
    }
    this.#epoch = epoch;
  }

  /**
   * The indices of this rank in the current epoch, in a new array. With `shuffle` it takes 4 bytes per element of the
   * dataset while it is made.
   *
   * @throws InvalidArgumentError if the sum of seed and epoch is not in -2^63 … 2^64 - 1.
   */
  indices(): Uint32Array<ArrayBuffer> {
    const { rank, worldSize, numSamples } = this;
    const length = this.#datasetLength;
    const order = this.shuffle ? randperm(length, this.#generator()) : undefined;
    const indices = new Uint32Array(numSamples);
    // Places beyond the end begin again at the start.
    const step = worldSize % length;
    let place = rank % length;
    for (let i = 0; i < numSamples; i++) {
      indices[i] = order === undefined ? place : (order[place] ?? 0);
      place += step;
      if (place >= length) place -= length;
    }
    return indices;
  }

  /** Iterates over {@link indices}. */
  [Symbol.iterator](): ArrayIterator<number> {
    return this.indices().values();
  }

  #generator(): Generator {
    return new Generator(BigInt(this.seed) + BigInt(this.#epoch));
  }
}

function lengthOf(dataset: number | { readonly length: number }): number {
  const isObject = typeof dataset === "object" && dataset !== null;
  const length: unknown = isObject ? dataset.length : dataset;
  if (typeof length === "number" && Number.isInteger(length) && length >= 0 && length <= LONGEST) return length;
  const given = isObject ? `${describe(dataset)} of length ${describeNumber(length)}` : describeNumber(length);
  refuse("dataset", `the length of the dataset must be an integer in 0 to 2^32, got ${given}`);
}

function refuse(argument: string, reason: string): never {
  throw new InvalidArgumentError(`DistributedSampler: ${reason}`, { argument });
}
