// Generated from native/c10d.h by scripts/generate-abi.ts. Do not edit.

export const ABI_VERSION = 2;

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
  UNAVAILABLE: -12,
} as const;

export const Mismatch = {
  NONE: 0,
  CALL: 1,
  SPLITS: 2,
  MESSAGE: 3,
  REPORTED: 4,
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

export const Service = {
  REGISTER_MEMORY: 32,
  DEREGISTER_MEMORY: 33,
  OPEN_WINDOW: 34,
  CLOSE_WINDOW: 35,
} as const;

export const OpFlag = {
  MONITORED: 1,
  WAIT_ALL_RANKS: 2,
  STREAM: 4,
  TIMES: 8,
} as const;

export const EventFlag = {
  PINNED: 1,
} as const;

export const CapabilityFlag = {
  TAKE_BATCHES: 1,
  SYNCHRONIZE: 2,
  SPLIT: 4,
  OVERTAKE_COLLECTIVES: 8,
} as const;

export const EventLayout = {
  kind: 0,
  status: 4,
  id: 8,
  peer: 16,
  flags: 20,
  keyBytes: 24,
  valueBytes: 28,
  startedNs: 32,
  finishedNs: 40,
  SIZE: 48,
} as const;

export const OpLayout = {
  size: 0,
  opcode: 4,
  dtype: 8,
  reduceOp: 12,
  peer: 16,
  tag: 20,
  flags: 24,
  deviceType: 28,
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
  deviceIndex: 104,
  reserved: 108,
  SIZE: 112,
} as const;

export const ConfigLayout = {
  size: 0,
  rank: 4,
  worldSize: 8,
  deviceType: 12,
  deviceIndex: 16,
  color: 20,
  timeoutMs: 24,
  options: 32,
  optionsBytes: 40,
  SIZE: 48,
} as const;

export const FailureLayout = {
  size: 0,
  status: 4,
  mismatch: 8,
  systemError: 12,
  peer: 16,
  rankCount: 20,
  rankCapacity: 24,
  textCapacity: 28,
  textBytes: 32,
  deviceError: 36,
  ranks: 40,
  text: 48,
  SIZE: 56,
} as const;

export const CapabilitiesLayout = {
  ops: 0,
  services: 8,
  dtypes: 16,
  reduceOps: 24,
  flags: 32,
  concurrency: 36,
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
