export { brand } from "./brand.ts";
export {
  addCallSite,
  addDetails,
  addToError,
  type CallSite,
  captureCallSite,
  type Frame,
  framesOf,
  lineOf,
  renameOp,
  replaceInError,
} from "./call-site.ts";
export { DEFAULT_GROUP } from "./default-group.ts";
export { describe, describeNumber } from "./describe.ts";
export * from "./dist-error.ts";
export { CONTEXT_LOST, lostContext } from "./lost-context.ts";
export { printable, printableProse } from "./printable.ts";
export { absenceText, ranksText, ranksTextOn } from "./ranks-text.ts";
export {
  descriptorShortage,
  explained,
  loaded,
  type Shortage,
  shortageOf,
  shortageOfErrno,
  shortageOfStart,
  withShortage,
} from "./shortage.ts";
export { callUserCode, messageOf, throwLater, warn, watchReturned } from "./user-code.ts";
