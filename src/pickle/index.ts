export { unpickle } from "./pickle-reader.ts";
export { PickleFloat, type PickleKey, PickleTuple, type PickleValue, type UnpickledValue } from "./pickle-value.ts";
export { pickle } from "./pickle-writer.ts";
export type { UnpickleLimits } from "./unpickle-limits.ts";
