export { AllOf } from "./all-of.ts";
export { blockedSliceMs, isServingBlocked, serveBlocked, serveWhileBlocked } from "./blocked-thread.ts";
export { DeferredWork } from "./deferred-work.ts";
export { FailureWarnings } from "./failure-warnings.ts";
export type { GroupState } from "./group-state.ts";
export { OpQueue } from "./op-queue.ts";
export { SteppedWork, type Steps } from "./stepped-work.ts";
export { refusedWithoutGroup } from "./without-group.ts";
export {
  asError,
  bindWork,
  discardWork,
  endWork,
  type FailedWork,
  failureOf,
  finishedOf,
  guardWork,
  hasEnded,
  hasStarted,
  isObserved,
  isTaken,
  isWork,
  joinWhole,
  type LibraryTimes,
  libraryTimesOf,
  lookAt,
  numberOf,
  OWN_RESULT,
  onEndOf,
  opOf,
  replaceError,
  sourceOf,
  startedOf,
  Work,
  type WorkErrorInit,
  type WorkGuard,
  type WorkInit,
  type WorkOwner,
  warnIfUnobserved,
  workOf,
} from "./work.ts";
export type { WorkInfo } from "./work-info.ts";
