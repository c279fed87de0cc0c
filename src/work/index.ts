export { AllOf } from "./all-of.ts";
export { DeferredWork } from "./deferred-work.ts";
export { FailureWarnings } from "./failure-warnings.ts";
export type { GroupState } from "./group-state.ts";
export { SteppedWork, type Steps } from "./stepped-work.ts";
export { refusedWithoutGroup } from "./without-group.ts";
export {
  asError,
  bindWork,
  type FailedWork,
  failureOf,
  finishedOf,
  guardWork,
  isTaken,
  isWork,
  joinWhole,
  OWN_RESULT,
  sourceOf,
  startedOf,
  Work,
  type WorkGuard,
  type WorkInit,
  type WorkOwner,
  warnIfUnobserved,
} from "./work.ts";
export type { WorkInfo } from "./work-info.ts";
