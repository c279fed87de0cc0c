export { msUntil, pause, withLimit } from "./deadline.ts";
export { durationText } from "./duration-text.ts";
export { defaultTimeoutMs, type Timeout, timeoutMs } from "./timeout.ts";
export { sleepSync, startTimer, type Timer } from "./timer.ts";
export { WaitCounter, type WaitCounterValues } from "./wait-counter.ts";
