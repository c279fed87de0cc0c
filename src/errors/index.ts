export * from "./dist-error.ts";
export { defaultTimeoutMs, type Timeout, timeoutMs } from "./timeout.ts";
