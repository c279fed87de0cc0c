export { dataParallel, TensorFlowDataParallel, type TensorFlowOptions } from "./tfjs-data-parallel.ts";
export type {
  GradientsOf,
  LossOf,
  TensorFlow,
  TensorFlowModel,
  TensorFlowOptimizer,
  TensorFlowTensor,
  TensorFlowVariable,
  TensorFlowWeight,
} from "./tfjs-interface.ts";
export type { TensorFlowParameters } from "./tfjs-variables.ts";
