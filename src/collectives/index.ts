export {
  type CallTerms,
  NO_TENSORS,
  nextCallId,
  type OpCall,
  opCall,
  opTypeOf,
  startOf,
  tensorsOf,
} from "./op-call.ts";
export {
  isOneTensor,
  madeOf,
  type Operation,
  type OpName,
  type OpRow,
  operations,
  opNames,
  opTable,
  type Side,
  singleOf,
} from "./op-table.ts";
export { isMessage, OpType } from "./op-type.ts";
export {
  type MemoryUse,
  type Operands,
  ofRank,
  type Part,
  partOf,
  requireDisjoint,
  requireDisjointOps,
  whole,
} from "./overlap.ts";
export { ReduceOp, type ReduceOpName, reduceOpCodes, reduceOps } from "./reduce-op.ts";
export {
  requireAlike,
  requireLengthAt,
  requireLengths,
  requirePerRank,
  requireSplits,
  requireTag,
  requireTimes,
} from "./shapes.ts";
export { countsOf, SPARSE_HEADER_LENGTH, sparseHeaderOf, sparseOf, splitSparse } from "./sparse-header.ts";
export {
  isTensorList,
  requireFlag,
  requireOptions,
  requireReduceOp,
  requireStream,
  requireTensor,
  requireTensors,
  requireTimeout,
} from "./validate.ts";
