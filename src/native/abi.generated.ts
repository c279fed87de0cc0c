// Generated from native/c10d.h by scripts/generate-abi.ts. Do not edit.

export const ABI_VERSION = 1;

export const Opcode = {
  BROADCAST: 0,
  ALLREDUCE: 1,
  ALLREDUCE_COALESCED: 2,
  REDUCE: 3,
  ALLGATHER: 4,
  ALLGATHER_BASE: 5,
  ALLGATHER_COALESCED: 6,
  GATHER: 7,
  SCATTER: 8,
  REDUCE_SCATTER: 9,
  ALLTOALL_BASE: 10,
  ALLTOALL: 11,
  SEND: 12,
  RECV: 13,
  RECV_ANY_SOURCE: 14,
  BARRIER: 15,
  REDUCE_SCATTER_BASE: 16,
  COALESCED: 17,
  ALLREDUCE_SPARSE: 18,
  REDUCE_SCATTER_TENSOR_COALESCED: 19,
} as const;

export const DTypeCode = {
  UINT8: 0,
  INT8: 1,
  INT16: 2,
  INT32: 3,
  INT64: 4,
  FLOAT16: 5,
  FLOAT32: 6,
  FLOAT64: 7,
  COMPLEX64: 9,
  COMPLEX128: 10,
  BOOL: 11,
  BFLOAT16: 15,
  UINT16: 27,
  UINT32: 28,
  UINT64: 29,
} as const;

export const ReduceOpCode = {
  SUM: 0,
  AVG: 1,
  PRODUCT: 2,
  MIN: 3,
  MAX: 4,
  BAND: 5,
  BOR: 6,
  BXOR: 7,
  PREMUL_SUM: 8,
} as const;

export const Status = {
  OK: 0,
  WAIT_TIMEOUT: -1,
  OP_TIMEOUT: -2,
  NETWORK: -3,
  ABORTED: -4,
  INVALID: -5,
  UNSUPPORTED: -6,
  GROUP_FAILED: -7,
  CLOSED: -8,
  BACKEND: -9,
  UNKNOWN_OP: -10,
  DESYNC: -11,
} as const;

export const GroupStateCode = {
  CONNECTING: 0,
  OPEN: 1,
  FAILED: 2,
  CLOSED: 3,
} as const;

export const EventKind = {
  READY: 1,
  COMPLETE: 2,
  RELEASED: 3,
  STORE_SET: 4,
  STORE_GET: 5,
  LOG: 6,
  LOST: 7,
} as const;

export const OpFlag = {
  MONITORED: 1,
  WAIT_ALL_RANKS: 2,
} as const;

export const EventFlag = {
  PINNED: 1,
} as const;

export const EventLayout = {
  kind: 0,
  status: 4,
  id: 8,
  peer: 16,
  flags: 20,
  keyBytes: 24,
  valueBytes: 28,
  SIZE: 32,
} as const;

export const OpLayout = {
  size: 0,
  opcode: 4,
  dtype: 8,
  reduceOp: 12,
  peer: 16,
  tag: 20,
  flags: 24,
  device: 28,
  stream: 32,
  timeoutMs: 40,
  premulFactor: 48,
  inputs: 56,
  outputs: 64,
  inputSplits: 72,
  outputSplits: 80,
  inputCount: 88,
  outputCount: 92,
  inputSplitCount: 96,
  outputSplitCount: 100,
  SIZE: 104,
} as const;

export const ConfigLayout = {
  size: 0,
  rank: 4,
  worldSize: 8,
  device: 12,
  timeoutMs: 16,
  options: 24,
  optionsBytes: 32,
  SIZE: 40,
} as const;

export const StatsLayout = {
  submitted: 0,
  completed: 8,
  failed: 16,
  drivenByWait: 24,
  pinned: 32,
  wakes: 40,
  SIZE: 48,
} as const;
