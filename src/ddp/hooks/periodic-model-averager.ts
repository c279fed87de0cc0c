import { type OptionNames, requireOptionNames } from "../../collectives/option-names.ts";
import { currentContext } from "../../distributed/dist-context.ts";
import { brand, describe, describeNumber, InvalidArgumentError, warn } from "../../errors/index.ts";
import type { ProcessGroup } from "../../process-group/index.ts";
import { type DType, empty, type TensorLike } from "../../tensor/index.ts";
import { copyElements, divideElements, partOfStorage } from "../elements.ts";
import { Parameter, storageOf } from "../parameter.ts";

/** Options of {@link PeriodicModelAverager}. */
export interface PeriodicModelAveragerOptions {
  /** Number of steps for one average; 1 would cost more than averaging gradients. */
  readonly period: number;
  /** Number of steps at the start without averages: `startLocalSGDIter` of the hook. Default: 0. */
  readonly warmupSteps?: number;
  /** The ranks whose models are averaged; by default the default group. `null` on ranks that do not take part. */
  readonly group?: ProcessGroup | null;
}

const optionNames: OptionNames<PeriodicModelAveragerOptions> = { period: true, warmupSteps: true, group: true };

/**
 * Averages the parameters of all ranks from time to time, for {@link postLocalSGDHook}: after the optimizer's step.
 *
 * ```ts
 * const averager = new PeriodicModelAverager({ period: 4, warmupSteps: 100 });
 * for (const batch of batches) {
 *   await trainOn(batch);
 *   await averager.averageParameters(ddp.parameters);
 * }
 * ```
 *
 * c10d: `PeriodicModelAverager`.
 */
export class PeriodicModelAverager {
  static {
    brand(PeriodicModelAverager, "PeriodicModelAverager");
  }
  readonly period: number;
  readonly warmupSteps: number;
  readonly group: ProcessGroup | null;
  #step = 0;

  /**
   * @throws InvalidArgumentError for an unknown option, a period that is no positive integer or a number of steps that is
   *   no integer from 0 on, or without a group.
   */
  constructor(options: PeriodicModelAveragerOptions) {
    requireOptionNames("PeriodicModelAverager", options, optionNames);
    const { period, warmupSteps = 0, group } = options;
    this.warmupSteps = requireCount("warmupSteps", warmupSteps, 0);
    this.period = requireCount("period", period, 1);
    if (period === 1) {
      warn(
        "PeriodicModelAverager: with a period of 1, parameters are averaged in every step, which costs no less than averaging gradients; DistributedDataParallel alone does that",
        "PERIOD_OF_ONE",
      );
    }
    this.group = group === undefined ? currentContext().require().group : group;
  }

  /** Number of calls of {@link averageParameters} so far. */
  get step(): number {
    return this.#step;
  }

  /**
   * Counts a step, and averages the parameters if it is time to: those that have a gradient, in one all-reduce, which has
   * the widest of their dtypes. All ranks must call it equally often, with the same parameters.
   *
   * @param parameters Of `ddp.parameters`. With `setOptimizerInBackward()` they have no gradients.
   * @returns Whether it was time to.
   * @throws InvalidArgumentError if it was, and no parameter has a gradient; or for real and complex ones together.
   */
  async averageParameters(parameters: Iterable<Parameter>): Promise<boolean> {
    const since = this.#step++ - this.warmupSteps;
    if (since < 0 || since % this.period !== 0) return false;
    if (this.group !== null) await average(this.group, [...parameters].filter(hasGradient));
    return true;
  }
}

function hasGradient(parameter: Parameter): boolean {
  if (parameter instanceof Parameter) return parameter.grad !== undefined;
  throw new InvalidArgumentError(
    `averageParameters: it takes parameters of DistributedDataParallel, such as ddp.parameters, got ${describe(parameter)}`,
    { argument: "parameters" },
  );
}

async function average(group: ProcessGroup, parameters: readonly Parameter[]): Promise<void> {
  const dtype = widestOf(parameters);
  const flat: TensorLike = empty(
    dtype,
    parameters.reduce((sum, { length }) => sum + length, 0),
  );
  const storage = storageOf(flat, "parameters");
  let start = 0;
  const parts = parameters.map(({ name, source, length, dtype: own }) => {
    const part = partOfStorage(storage, dtype, start, length);
    start += length;
    copyElements(part, dtype, storageOf(source.data, `data of ${name}`), own);
    return part;
  });
  divideElements(storage, dtype, group.size);
  await group.allReduce(flat);
  for (const [i, { name, source, dtype: own }] of parameters.entries()) {
    const values = source.data;
    copyElements(storageOf(values, `data of ${name}`), own, parts[i] as typeof storage, dtype);
    source.received?.(values);
  }
}

/** The dtype to which PyTorch converts tensors that it puts together. */
function widestOf(parameters: readonly Parameter[]): DType {
  const [first, ...others] = new Set(parameters.map(({ dtype }) => dtype));
  if (first === undefined) {
    throw new InvalidArgumentError("averageParameters: no parameter has a gradient", { argument: "parameters" });
  }
  if (others.length === 0) return first;
  const all = [first, ...others];
  if (all.some((dtype) => dtype.startsWith("complex"))) {
    throw new InvalidArgumentError(
      `averageParameters: real and complex parameters cannot be averaged together, got ${all.join(", ")}`,
      { argument: "parameters" },
    );
  }
  return all.includes("float64") ? "float64" : "float32";
}

function requireCount(argument: string, value: number, least: number): number {
  if (Number.isSafeInteger(value) && value >= least) return value;
  throw new InvalidArgumentError(
    `PeriodicModelAverager: ${argument} must be an integer from ${least} on, got ${describeNumber(value)}`,
    { argument },
  );
}
