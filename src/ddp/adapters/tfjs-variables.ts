import { describe, InvalidArgumentError } from "../../errors/index.ts";
import type { DataParallelModel } from "../model.ts";
import type { TrainedParameter } from "../parameter.ts";
import type {
  TensorFlow,
  TensorFlowModel,
  TensorFlowVariable,
  TensorFlowWeight,
  TensorValues,
} from "./tfjs-interface.ts";
import { peek } from "./tfjs-memory.ts";

/** A model, or variables, as they are given. */
export type TensorFlowParameters = TensorFlowModel | readonly (TensorFlowVariable | TensorFlowWeight)[];

/** The variables of a model. */
export interface ModelVariables {
  readonly name: string;
  readonly trained: readonly TensorFlowVariable[];
  /** Those that get no gradients. */
  readonly frozen: readonly TensorFlowVariable[];
}

const copyable: readonly string[] = ["float32", "int32", "bool"];

/** @throws InvalidArgumentError for what is not a model, and for variables of a dtype that cannot be trained or copied. */
export function variablesOf(given: TensorFlowParameters): ModelVariables {
  const variables = readVariables(given);
  const seen = new Set<string>();
  for (const variable of [...variables.trained, ...variables.frozen]) {
    const { name, dtype } = variable;
    if (seen.has(name)) {
      throw new InvalidArgumentError(`two variables are named ${describe(name)}, or one was given twice`, {
        argument: "model",
      });
    }
    seen.add(name);
    const isTrained = variables.trained.includes(variable);
    if (isTrained ? dtype === "float32" : copyable.includes(dtype)) continue;
    throw new InvalidArgumentError(
      isTrained
        ? `variable ${name} is ${dtype}, but TensorFlow.js has gradients only for float32: make it with trainable = false, or of float32`
        : `variable ${name} is ${dtype}, which cannot be copied between ranks; those of ${copyable.join(", ")} can`,
      { argument: "model" },
    );
  }
  return variables;
}

/** The model as `DistributedDataParallel` takes it. Values are read when they are needed, in copies. */
export function modelOf(tf: TensorFlow, variables: ModelVariables, copiesFrozen: boolean): DataParallelModel {
  const tensors = (which: readonly TensorFlowVariable[], requiresGrad: boolean): TrainedParameter[] =>
    which.map((variable) => ({
      name: variable.name,
      shape: [...variable.shape],
      requiresGrad,
      get data() {
        return peek(tf, variable).slice();
      },
      received(values) {
        tf.tidy(() => variable.assign(tf.tensor(values as TensorValues, [...variable.shape], variable.dtype)));
      },
    }));
  const trained = tensors(variables.trained, true);
  const frozen = tensors(variables.frozen, false);
  const { name } = variables;
  return copiesFrozen
    ? { name, parameters: trained, buffers: frozen }
    : { name, parameters: [...trained, ...frozen], buffers: [] };
}

function readVariables(given: TensorFlowParameters): ModelVariables {
  if (isList(given)) {
    const all = given.map(variableOf);
    return {
      name: "variables",
      trained: all.filter(({ trainable }) => trainable),
      frozen: all.filter(({ trainable }) => !trainable),
    };
  }
  if (typeof given !== "object" || given === null || !Array.isArray(given.trainableWeights)) {
    throw new InvalidArgumentError(`a model is a tf.LayersModel or a list of variables, got ${describe(given)}`, {
      argument: "model",
    });
  }
  return {
    name: given.name,
    trained: given.trainableWeights.map(variableOf),
    frozen: given.nonTrainableWeights.map(variableOf),
  };
}

function isList(given: TensorFlowParameters): given is readonly (TensorFlowVariable | TensorFlowWeight)[] {
  return Array.isArray(given);
}

function variableOf(given: TensorFlowVariable | TensorFlowWeight): TensorFlowVariable {
  const variable = (typeof given === "object" && given !== null && "read" in given ? given.read() : given) as
    | Partial<TensorFlowVariable>
    | undefined;
  if (typeof variable?.assign === "function" && typeof variable.name === "string")
    return variable as TensorFlowVariable;
  throw new InvalidArgumentError(`a variable is a tf.Variable or a weight of a layer, got ${describe(given)}`, {
    argument: "model",
  });
}
