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
