export * from "./dist-error.ts";
export { defaultTimeoutMs, type Timeout, timeoutMs } from "./timeout.ts";
export { callUserCode, messageOf, throwLater, warn } from "./user-code.ts";
