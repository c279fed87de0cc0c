export { AllOf } from "./all-of.ts";
export { FailureWarnings } from "./failure-warnings.ts";
export type { GroupState } from "./group-state.ts";
export {
  asError,
  type FailedWork,
  failureOf,
  joinWhole,
  outcomeOf,
  type PromiseWorkInit,
  Work,
  type WorkInit,
  type WorkOwner,
  warnIfUnobserved,
} from "./work.ts";
export type { WorkInfo } from "./work-info.ts";
