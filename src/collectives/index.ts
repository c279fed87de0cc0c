export { OpType, opNames } from "./op-type.ts";
export { ReduceOp, type ReduceOpName, reduceOps } from "./reduce-op.ts";
export { isTensorList, requireReduceOp, requireTensor, requireTensors, requireTimeout } from "./validate.ts";
