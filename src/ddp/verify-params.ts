import { InvalidArgumentError } from "../errors/index.ts";
import type { ProcessGroup } from "../process-group/index.ts";
import { Tensor, type TensorLike, viewTensor } from "../tensor/index.ts";
import { requireBackends } from "./device-limits.ts";
import type { Logger } from "./logger.ts";
import { type Compared, ModelComparison } from "./model-comparison.ts";
import { factsOf, type ModelTensor, Parameter, shapeOf, type TensorFacts } from "./parameter.ts";

/**
 * Checks that all ranks have the same parameters: how many, and of which shapes. Ranks that have met through
 * `initProcessGroup` also compare names and dtypes, so that a model with its parameters in another order is found.
 *
 * @param parameters The parameters, or their tensors; at least one.
 * @param logger Gets the error.
 * @throws InvalidArgumentError (`PARAMETERS_DIFFER`) on every Bun rank that can see a difference, naming both ranks.
 *
 * c10d: `_verify_params_across_processes`, with the same collectives: an all-gather of the count, and a broadcast of the
 * shapes and strides of rank 0.
 */
export async function verifyParamsAcrossProcesses(
  group: ProcessGroup,
  parameters: readonly (Parameter | ModelTensor | TensorLike)[],
  logger?: Logger,
): Promise<void> {
  try {
    if (!Array.isArray(parameters) || parameters.length === 0) {
      throw new InvalidArgumentError("Expected at least one parameter.", { argument: "parameters" });
    }
    const tensors = parameters.map(describeTensor);
    requireBackends(group, tensors);
    await verifyModels(group, tensors);
  } catch (error) {
    logger?.setErrorAndLog(error);
    throw error;
  }
}

const SAME = "DDP expects same model across all ranks";

/** What ranks compare besides the parameters. */
export interface ComparedBesides {
  readonly frozen?: readonly TensorFacts[];
  readonly buffers?: readonly TensorFacts[];
  readonly options?: Readonly<Record<string, unknown>>;
}

/**
 * Does what {@link verifyParamsAcrossProcesses} says.
 * @returns The comparison, which knows whether all ranks are Bun's.
 */
export async function verifyModels(
  group: ProcessGroup,
  tensors: readonly TensorFacts[],
  { frozen = [], buffers = [], options = {} }: ComparedBesides = {},
): Promise<ModelComparison> {
  const comparison = new ModelComparison(group, [
    ...tensors.map(compared("tensor")),
    ...frozen.map(compared("frozen tensor")),
    ...buffers.map(compared("buffer")),
    ...Object.entries(options).map(([name, value]): Compared => [`option ${name}`, String(value)]),
  ]);
  await comparison.publish();
  const counts = await countsOfAll(group, tensors.length);
  const different = await comparison.difference();
  const other = counts.findIndex((count) => count !== tensors.length);
  if (other >= 0) {
    const first = different === undefined ? "" : `; ${different.difference}`;
    const text = `Rank ${group.rank} has ${tensors.length} params, while rank ${other} has inconsistent ${counts[other]} params`;
    throw differs(group, other, `${SAME}, but ${text}${first}.`);
  }
  if (different !== undefined) throw differs(group, different.rank, `${SAME}, but ${different.difference}`);
  await compareShapes(group, tensors);
  return comparison;
}

function compared(kind: string): (tensor: TensorFacts, place: number) => Compared {
  return ({ name, dtype, shape }, place) => [`${kind} ${place}`, `${name}, ${dtype} of shape [${shape.join(", ")}],`];
}

/** An error about the first difference between this rank and another one. */
export function differs(group: ProcessGroup, other: number, text: string, argument?: string): InvalidArgumentError {
  const { name, rank } = group;
  const init = { code: "PARAMETERS_DIFFER", group: name, rank, peers: [other] };
  return new InvalidArgumentError(text, argument === undefined ? init : { ...init, argument });
}

async function countsOfAll(group: ProcessGroup, own: number): Promise<number[]> {
  const counts = Array.from({ length: group.size }, () => new BigInt64Array(1));
  await group.allGather(counts, BigInt64Array.of(BigInt(own)));
  return counts.map(([count]) => Number(count));
}

async function compareShapes(group: ProcessGroup, tensors: readonly TensorFacts[]): Promise<void> {
  const layouts = tensors.map(({ shape }) => [shape, stridesOf(shape)] as const);
  const own = BigInt64Array.from(layouts.flat(2), BigInt);
  const given = own.slice();
  await group.broadcast(given, { groupSrc: 0 });
  let place = 0;
  for (const [i, layout] of layouts.entries()) {
    for (const [j, what] of ["sizes", "strides"].entries()) {
      const values = layout[j] ?? [];
      const theirs = given.subarray(place, place + values.length);
      place += values.length;
      if (values.every((value, k) => BigInt(value) === theirs[k])) continue;
      throw differs(
        group,
        0,
        `[${group.rank}]: params[${i}] in this process with sizes [${tensors[i]?.shape.join(", ")}] appears not to match ${what} of the same param in process 0. ` +
          `Here it is ${tensors[i]?.name}; rank 0 has ${what} [${[...theirs].join(", ")}].`,
        tensors[i]?.name,
      );
    }
  }
}

/** Strides of a contiguous tensor, in elements. */
function stridesOf(shape: readonly number[]): number[] {
  const strides: number[] = [];
  let stride = 1;
  for (const size of shape.toReversed()) {
    strides.unshift(stride);
    stride *= Math.max(size, 1);
  }
  return strides;
}

function describeTensor(given: Parameter | ModelTensor | TensorLike, index: number): TensorFacts {
  if (given instanceof Parameter) return given;
  if (!ArrayBuffer.isView(given) && !(given instanceof Tensor) && "name" in given && "data" in given)
    return factsOf(given);
  const name = `params[${index}]`;
  const { dtype, device, length } = viewTensor(given as TensorLike, name);
  return { name, dtype, device, length, shape: shapeOf(given as TensorLike, device) ?? [length] };
}
