import { describe, InvalidArgumentError } from "../errors/index.ts";
import { factsOf, type ModelTensor, Parameter, type TensorFacts, type TrainedParameter } from "./parameter.ts";

/** What `DistributedDataParallel` has to know of a model. */
export interface DataParallelModel {
  /** With the same names, shapes and dtypes in the same order on all ranks. */
  readonly parameters: readonly TrainedParameter[];
  /** Tensors that are not trained, such as running means; all ranks get those of rank 0 in every iteration. */
  readonly buffers?: readonly ModelTensor[];
  /** For logs. By default the name of its class. */
  readonly name?: string;
}

/** The tensors of a model, by what happens to them. */
export interface ReadModel {
  readonly name: string;
  readonly trained: readonly Parameter[];
  /** Parameters that are not trained, and buffers, without their values. */
  readonly frozen: readonly TensorFacts[];
  readonly buffers: readonly TensorFacts[];
  /** Of all three. */
  readonly facts: readonly TensorFacts[];
  /** All parameters, then the buffers, in the order in which they are copied. */
  readonly tensors: readonly ModelTensor[];
  readonly bufferTensors: readonly ModelTensor[];
}

/**
 * @param withBuffers Whether buffers take part.
 * @throws InvalidArgumentError for what is no model, no tensor, or has a name twice.
 */
export function readModel(model: DataParallelModel, withBuffers: boolean): ReadModel {
  if (typeof model !== "object" || model === null || !Array.isArray(model.parameters)) {
    throw new InvalidArgumentError(`a model is { parameters: [{ name, data }, …] }, got ${describe(model)}`, {
      argument: "model",
    });
  }
  const parameters: readonly TrainedParameter[] = model.parameters;
  const given: unknown = model.buffers ?? [];
  if (!Array.isArray(given)) {
    throw new InvalidArgumentError(`the buffers of a model are a list of { name, data }, got ${describe(given)}`, {
      argument: "model",
    });
  }
  const all: readonly ModelTensor[] = [...parameters, ...given];
  const seen = new Set<string>();
  for (const { name } of all.map(factsOf)) {
    if (seen.has(name)) {
      throw new InvalidArgumentError(`two tensors of the model are named ${describe(name)}`, { argument: "model" });
    }
    seen.add(name);
  }
  const trained = parameters.filter(({ requiresGrad }) => requiresGrad !== false);
  if (trained.length === 0) {
    throw new InvalidArgumentError(
      "DistributedDataParallel is not needed when a module doesn't have any parameters that require a gradient.",
      { argument: "model" },
    );
  }
  const bufferTensors: readonly ModelTensor[] = withBuffers ? given : [];
  const read = {
    trained: trained.map((each) => new Parameter(each)),
    frozen: parameters.filter(({ requiresGrad }) => requiresGrad === false).map(factsOf),
    buffers: bufferTensors.map(factsOf),
  };
  return {
    name: model.name ?? describe(model),
    ...read,
    facts: [...read.trained, ...read.frozen, ...read.buffers],
    tensors: [...parameters, ...bufferTensors],
    bufferTensors,
  };
}
