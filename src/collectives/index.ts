export { OpType, opNames } from "./op-type.ts";
export { ReduceOp, type ReduceOpName, reduceOpCodes, reduceOps } from "./reduce-op.ts";
export { requireAlike, requireLengths, requirePerRank, requireSplits, requireTag, requireTimes } from "./shapes.ts";
export {
  isTensorList,
  requireOptions,
  requireReduceOp,
  requireTensor,
  requireTensors,
  requireTimeout,
} from "./validate.ts";
