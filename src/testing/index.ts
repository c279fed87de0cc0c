export type { DeviceMemory, RankPlace, SuiteMemory } from "./backend-suite/device-memory.ts";
export { type BackendSuiteOptions, testBackend } from "./backend-suite.ts";
export { fakeInPlaceOf } from "./fake-in-place-of.ts";
export type { Fault, FaultOutcome, FaultTime } from "./fault.ts";
export {
  type LocalRank,
  LocalRanksError,
  type LocalRanksOptions,
  localRanks,
  type RankFailure,
} from "./local-ranks.ts";
export { ManualClock } from "./manual-clock.ts";
export type { ReportedError } from "./rank-protocol.ts";
export {
  type RankBody,
  type RankContext,
  type RankOutcome,
  type RunningJob,
  type RunningRank,
  type SpawnOptions,
  spawnRanks,
  startRanks,
} from "./spawn-ranks.ts";
export * from "./store-suite.ts";
export type { ProcessState, RankHang } from "./watch/hang.ts";
export type { LoggedOp } from "./watch/op-log.ts";
export { type WorkerOutcome, type WorkerRanksOptions, workerRanks } from "./worker-ranks.ts";
