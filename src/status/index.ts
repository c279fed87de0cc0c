export { areAwaited, hasNotMade, mayShareWorld, missingAmong } from "./called-turns.ts";
export { requestDumps } from "./dump-request.ts";
export type { GroupStatus } from "./group-status.ts";
export { type LaunchedJobInfo, writeJobFile } from "./job-file.ts";
export { withLastingStates } from "./lasting-states.ts";
export { announceSocket, socketIdentity } from "./left-socket.ts";
export { type MissingRanks, missingMembers, missingRanks, type OverdueGroup, type OverdueOp } from "./missing-ranks.ts";
export { missingTexts } from "./missing-text.ts";
export { callCodes } from "./op-codes.ts";
export { OwnStatus, type OwnStatusPlan } from "./own-status.ts";
export { type ProcessState, processStart, processState } from "./process-state.ts";
export type {
  GroupClosing,
  GroupMaking,
  GroupStanding,
  OpStatus,
  RankRecord,
  RankStatus,
  RecordedOp,
} from "./rank-status.ts";
export type { Maker } from "./record-layout.ts";
export { parseStatuses, statusesText, writeEnded, writeReported } from "./reported-statuses.ts";
export {
  type JobStatus,
  jobFolder,
  readJobs,
  readRecords,
  readStatuses,
  removeJob,
  sweepJobs,
} from "./status-folder.ts";
export { type RecordedStanding, StatusRecord } from "./status-record.ts";
export { opText, seconds, standingText, stateText, statusText, type Whereabouts, whereText } from "./where-text.ts";
