import { type OptionNames, requireOptionNames } from "../../collectives/option-names.ts";
import { requireFlag } from "../../collectives/validate.ts";
import { brand, describe, describeNumber, InvalidArgumentError } from "../../errors/index.ts";
import type { ProcessGroup } from "../../process-group/index.ts";
import { loggerOf } from "../../registry/index.ts";
import type { GradBucket } from "../grad-bucket.ts";
import { Generator, RandomState } from "../random/index.ts";
import type { RealDType } from "./exchanged-floats.ts";
import { changedError, type MemorySizes, PowerSGDMemory, type SavedBucket } from "./power-sgd-memory.ts";

/** Upper bound of the seeds of random matrices. */
const SEEDS = 1_000_000_000;

/** Options of {@link PowerSGDState}. All ranks must have the same. */
export interface PowerSGDOptions {
  /** The ranks that average their gradients; by default those of the bucket. c10d: `process_group`. */
  readonly group?: ProcessGroup;
  /** Columns of the matrices that are sent in place of a gradient: more are slower and lose less. Default: 1. */
  readonly matrixApproximationRank?: number;
  /**
   * Number of iterations at the start whose gradients are averaged without compression. At least 2 with
   * `useErrorFeedback` or `warmStart`, since buckets change in the second iteration. Default: 1000.
   */
  readonly startPowerSGDIter?: number;
  /** Gradients that would not be made smaller by more than this factor are sent as they are. Default: 2. */
  readonly minCompressionRate?: number;
  /** Whether what compression leaves out of a gradient is added to that of the next iteration. Default: true. */
  readonly useErrorFeedback?: boolean;
  /** Whether an iteration begins with the matrices of the one before, and not with random ones. Default: true. */
  readonly warmStart?: boolean;
  /** Added to lengths by which columns are divided, such as 1e-8: with 0, a gradient of zeros becomes NaN. Default: 0. */
  readonly orthogonalizationEpsilon?: number;
  /** Seed of the random matrices, an integer in 0 … 2^32 - 1. Default: 0. */
  readonly randomSeed?: number;
  /** Number of iterations after which {@link PowerSGDState.compressionStats} is logged once more. Default: 10000. */
  readonly compressionStatsLoggingFrequency?: number;
  /**
   * Whether the random matrices of tensors of the same shape are drawn at once, as PyTorch's ranks do with this option;
   * here nothing else depends on it. Default: false.
   */
  readonly batchTensorsWithSameShape?: boolean;
}

const optionNames: OptionNames<PowerSGDOptions> = {
  group: true,
  matrixApproximationRank: true,
  startPowerSGDIter: true,
  minCompressionRate: true,
  useErrorFeedback: true,
  warmStart: true,
  orthogonalizationEpsilon: true,
  randomSeed: true,
  compressionStatsLoggingFrequency: true,
  batchTensorsWithSameShape: true,
};

/** How much smaller gradients were made, since compression began. c10d: the tuple of `compression_stats()`. */
export interface CompressionStats {
  /** `numelBeforeCompression` by `numelAfterCompression`; 0 before compression begins. */
  readonly compressRate: number;
  /** Number of elements of the gradients. */
  readonly numelBeforeCompression: number;
  /** Number of elements that were sent for them. */
  readonly numelAfterCompression: number;
}

/** What {@link PowerSGDState.save} returns: plain data, for `bun:jsc`'s `serialize` or `structuredClone`. */
export interface SavedPowerSGDState {
  /** All but the group. */
  readonly options: Required<Omit<PowerSGDOptions, "group">>;
  readonly iter: number;
  /** How many seeds were drawn. */
  readonly seedsDrawn: number;
  readonly numelBeforeCompression: number;
  readonly numelAfterCompression: number;
  readonly nextStatsReport: number;
  readonly buckets: readonly (readonly [index: number, bucket: SavedBucket])[];
}

/** Seeds of a saved state that are drawn again: a second of them. */
const MAX_SEEDS = 1e8;

/**
 * Options of `powerSGDHook` and `batchedPowerSGDHook`, and what they keep from one iteration to the next. Each model needs
 * its own.
 *
 * c10d: `PowerSGDState`.
 */
export class PowerSGDState {
  static {
    brand(PowerSGDState, "PowerSGDState");
  }
  /** The ranks that average their gradients, if not those of the bucket. */
  group: ProcessGroup | undefined;
  readonly matrixApproximationRank: number;
  readonly startPowerSGDIter: number;
  readonly minCompressionRate: number;
  readonly useErrorFeedback: boolean;
  readonly warmStart: boolean;
  readonly orthogonalizationEpsilon: number;
  readonly randomSeed: number;
  readonly compressionStatsLoggingFrequency: number;
  readonly batchTensorsWithSameShape: boolean;
  readonly #random: RandomState;
  readonly #generator = new Generator();
  readonly #memories = new Map<number, PowerSGDMemory>();
  readonly #restored = new Map<number, SavedBucket>();
  #iter = 0;
  #seedsDrawn = 0;
  #numelBefore = 0;
  #numelAfter = 0;
  #nextReport = 0;

  /** @throws InvalidArgumentError for an unknown option, or one whose value is not as {@link PowerSGDOptions} says. */
  constructor(options: PowerSGDOptions = {}) {
    requireOptionNames("PowerSGDState", options, optionNames);
    const { group, useErrorFeedback = true, warmStart = true, batchTensorsWithSameShape } = options;
    this.group = group;
    this.matrixApproximationRank = requireInteger("matrixApproximationRank", options.matrixApproximationRank ?? 1, 1);
    this.startPowerSGDIter = requireInteger("startPowerSGDIter", options.startPowerSGDIter ?? 1000, 0);
    this.minCompressionRate = requireNumber("minCompressionRate", options.minCompressionRate ?? 2);
    this.useErrorFeedback = requireFlag("PowerSGDState", "useErrorFeedback", useErrorFeedback);
    this.warmStart = requireFlag("PowerSGDState", "warmStart", warmStart);
    this.orthogonalizationEpsilon = requireNumber("orthogonalizationEpsilon", options.orthogonalizationEpsilon ?? 0);
    this.randomSeed = options.randomSeed ?? 0;
    this.#random = new RandomState(this.randomSeed);
    const frequency = options.compressionStatsLoggingFrequency ?? 10_000;
    this.compressionStatsLoggingFrequency = requireInteger("compressionStatsLoggingFrequency", frequency, 1);
    this.batchTensorsWithSameShape = requireFlag(
      "PowerSGDState",
      "batchTensorsWithSameShape",
      batchTensorsWithSameShape,
    );
    if ((useErrorFeedback || warmStart) && this.startPowerSGDIter <= 1) {
      refuse(
        "startPowerSGDIter",
        `Expect \`startPowerSGDIter\` > 1 if \`useErrorFeedback\` or \`warmStart\` is enabled, since buckets change in the second iteration; got ${this.startPowerSGDIter}`,
      );
    }
  }

  /**
   * The state that {@link save} has saved, for a training that goes on with the same model and buckets.
   *
   * @param group As the option of that name.
   * @throws InvalidArgumentError for anything else.
   *
   * c10d: `PowerSGDState.__setstate__`.
   */
  static restore(saved: SavedPowerSGDState, group?: ProcessGroup): PowerSGDState {
    if (typeof saved !== "object" || saved === null || !Array.isArray(saved.buckets)) {
      refuse("saved", `restore() takes what save() returned, got ${describe(saved)}`);
    }
    const state = new PowerSGDState({ ...saved.options, ...(group !== undefined && { group }) });
    state.#iter = requireInteger("iter", saved.iter, 0);
    state.#numelBefore = requireInteger("numelBeforeCompression", saved.numelBeforeCompression, 0);
    state.#numelAfter = requireInteger("numelAfterCompression", saved.numelAfterCompression, 0);
    state.#nextReport = requireInteger("nextStatsReport", saved.nextStatsReport, 0);
    const drawn = requireInteger("seedsDrawn", saved.seedsDrawn, 0);
    // They are drawn again, one by one.
    if (drawn > MAX_SEEDS) refuse("seedsDrawn", `seedsDrawn: at most ${MAX_SEEDS} can be drawn again, got ${drawn}`);
    while (state.#seedsDrawn < drawn) state.#drawSeed();
    for (const [index, bucket] of structuredClone(saved.buckets)) state.#restored.set(index, bucket);
    return state;
  }

  /**
   * A copy of all but the group. To be called between two iterations; buckets that have changed since make the next
   * iteration fail (`BUCKETS_CHANGED`), so let the new training have its first two iterations before it is registered.
   *
   * c10d: `PowerSGDState.__getstate__`.
   */
  save(): SavedPowerSGDState {
    const buckets = new Map(this.#restored);
    for (const [index, memory] of this.#memories) buckets.set(index, memory.save());
    return {
      options: {
        matrixApproximationRank: this.matrixApproximationRank,
        startPowerSGDIter: this.startPowerSGDIter,
        minCompressionRate: this.minCompressionRate,
        useErrorFeedback: this.useErrorFeedback,
        warmStart: this.warmStart,
        orthogonalizationEpsilon: this.orthogonalizationEpsilon,
        randomSeed: this.randomSeed,
        compressionStatsLoggingFrequency: this.compressionStatsLoggingFrequency,
        batchTensorsWithSameShape: this.batchTensorsWithSameShape,
      },
      iter: this.#iter,
      seedsDrawn: this.#seedsDrawn,
      numelBeforeCompression: this.#numelBefore,
      numelAfterCompression: this.#numelAfter,
      nextStatsReport: this.#nextReport,
      buckets: structuredClone([...buckets]),
    };
  }

  /** Number of iterations so far. */
  get iter(): number {
    return this.#iter;
  }

  /** How much smaller gradients were made so far. c10d: `compression_stats`. */
  compressionStats(): CompressionStats {
    const [before, after] = [this.#numelBefore, this.#numelAfter];
    return {
      compressRate: after > 0 ? before / after : 0,
      numelBeforeCompression: before,
      numelAfterCompression: after,
    };
  }

  /**
   * Counts an iteration if a bucket is its last.
   * @internal c10d: `maybe_increase_iter`.
   */
  maybeIncreaseIter(bucket: GradBucket): void {
    if (!bucket.isLast()) return;
    this.#iter++;
    if (this.#iter === this.startPowerSGDIter) {
      loggerOf().info(`Start to apply PowerSGD after ${this.#iter} iterations.`);
    }
  }

  /**
   * Counts elements, and logs the counts if it is time to.
   * @internal
   */
  count(bucket: GradBucket, before: number, after: number): void {
    this.#numelBefore += before;
    this.#numelAfter += after;
    if (!bucket.isLast() || this.#iter < this.#nextReport) return;
    const { compressRate } = this.compressionStats();
    loggerOf().info(
      `Compression stats: iter ${this.#iter}, total before compression ${this.#numelBefore}, total after compression ${this.#numelAfter}, rate ${compressRate}`,
    );
    this.#nextReport = this.#iter + this.compressionStatsLoggingFrequency;
  }

  /**
   * Memory for a bucket, the same in each iteration.
   * @throws InvalidArgumentError if what is kept there is of other parameters (`BUCKETS_CHANGED`).
   * @internal
   */
  memoryOf(bucket: GradBucket, dtype: RealDType, sizes: MemorySizes): PowerSGDMemory {
    const index = bucket.index();
    const before = this.#memories.get(index);
    if (before?.fits(bucket, sizes)) return before;
    if (before !== undefined && (this.useErrorFeedback || this.warmStart)) throw changedError(bucket);
    const memory = new PowerSGDMemory(bucket, dtype, sizes, this.useErrorFeedback);
    const restored = this.#restored.get(index);
    if (restored !== undefined) memory.restore(restored, bucket);
    this.#restored.delete(index);
    this.#memories.set(index, memory);
    return memory;
  }

  /**
   * A generator with a new seed, the same on all ranks.
   * @internal
   */
  reseeded(): Generator {
    return this.#generator.manualSeed(this.#drawSeed());
  }

  #drawSeed(): number {
    this.#seedsDrawn++;
    return this.#random.randint(SEEDS);
  }
}

/** @throws InvalidArgumentError unless it is a {@link PowerSGDState}. */
export function requirePowerSGDState(hook: string, state: unknown): PowerSGDState {
  if (state instanceof PowerSGDState) return state;
  throw new InvalidArgumentError(
    `${hook}: its state is a PowerSGDState, as in registerCommHook(new PowerSGDState(), ${hook}); got ${describe(state)}`,
    { argument: "state" },
  );
}

function requireInteger(argument: string, value: number, least: number): number {
  if (Number.isSafeInteger(value) && value >= least) return value;
  refuse(argument, `${argument} must be an integer from ${least} on, got ${describeNumber(value)}`);
}

function requireNumber(argument: string, value: number): number {
  if (typeof value === "number" && value >= 0 && value < Number.POSITIVE_INFINITY) return value;
  refuse(argument, `${argument} must be a number from 0 on, got ${describeNumber(value)}`);
}

function refuse(argument: string, reason: string): never {
  throw new InvalidArgumentError(`PowerSGDState: ${reason}`, { argument });
}
