export { AllOf } from "./all-of.ts";
export type { GroupState } from "./group-state.ts";
export {
  type FailedWork,
  type PromiseWorkInit,
  Work,
  type WorkInit,
  type WorkOwner,
  warnIfUnobserved,
} from "./work.ts";
export type { WorkInfo } from "./work-info.ts";
