export type { ProcessState } from "../status/index.ts";
export { type BackendSuiteOptions, testBackend } from "./backend-suite/backend-suite.ts";
export type { DeviceMemory, RankPlace, SuiteMemory } from "./backend-suite/device-memory.ts";
export { fakeInPlaceOf } from "./fake-in-place-of.ts";
export type { Fault, FaultOutcome, FaultTime } from "./fault.ts";
export { ManualClock } from "./manual-clock.ts";
export {
  type LocalRank,
  LocalRanksError,
  type LocalRanksOptions,
  localRanks,
  type RankFailure,
} from "./ranks/local-ranks.ts";
export type { ReportedError } from "./ranks/rank-protocol.ts";
export {
  type RankBody,
  type RankContext,
  type RankOutcome,
  type RunningJob,
  type RunningRank,
  type SpawnOptions,
  spawnRanks,
  startRanks,
} from "./ranks/spawn-ranks.ts";
export { type WorkerOutcome, type WorkerRanksOptions, workerRanks } from "./ranks/worker-ranks.ts";
export * from "./store-suite/store-suite.ts";
export type { RankHang } from "./watch/hang.ts";
export type { LoggedOp } from "./watch/op-log.ts";
