export { BackwardPass } from "./backward-pass.ts";
export { broadcastCoalesced } from "./broadcast-coalesced.ts";
export { type BucketAssignment, computeBucketAssignmentBySize } from "./bucket-assignment.ts";
export { BuiltinCommHookType, type CommHook, type CommHookOptions, pipelined } from "./comm-hook.ts";
export { DDPLoggingData } from "./ddp-logging-data.ts";
export type { DataParallelOptions } from "./ddp-options.ts";
export { DistributedDataParallel } from "./distributed-data-parallel.ts";
export { DistributedSampler, type DistributedSamplerOptions } from "./distributed-sampler.ts";
export { GradBucket } from "./grad-bucket.ts";
export { batchedPowerSGDHook } from "./hooks/batched-power-sgd-hook.ts";
export { bf16CompressWrapper, fp16CompressWrapper } from "./hooks/compress-wrappers.ts";
export { allReduceHook, bf16CompressHook, fp16CompressHook, type HookGroup, noopHook } from "./hooks/default-hooks.ts";
export { hookThenOptimizer, type StepwiseOptimizer } from "./hooks/hook-then-optimizer.ts";
export { PeriodicModelAverager, type PeriodicModelAveragerOptions } from "./hooks/periodic-model-averager.ts";
export { type PostLocalSGDOptions, PostLocalSGDState, postLocalSGDHook } from "./hooks/post-local-sgd.ts";
export { powerSGDHook } from "./hooks/power-sgd-hook.ts";
export type { SavedBucket } from "./hooks/power-sgd-memory.ts";
export {
  type CompressionStats,
  type PowerSGDOptions,
  PowerSGDState,
  type SavedPowerSGDState,
} from "./hooks/power-sgd-state.ts";
export { quantizationPerChannelHook, quantizationPerTensorHook } from "./hooks/quantization-hooks.ts";
export type { IterationTimes } from "./iteration-timer.ts";
export { Join, type Joinable, type JoinConfig, type JoinHook, type JoinOptions } from "./join.ts";
export { type ConstructionData, Logger } from "./logger.ts";
export type { DataParallelModel } from "./model.ts";
export { type Gradient, type ModelParameter, type ModelTensor, Parameter, type TrainedParameter } from "./parameter.ts";
export { Reducer, type ReducerFacts } from "./reducer.ts";
export type { ReducerOptions, ReducerSettings } from "./reducer-options.ts";
export { registerBuiltinCommHook, registerCommHook } from "./register-comm-hook.ts";
export { verifyParamsAcrossProcesses } from "./verify-params.ts";
