import { expect, test } from "bun:test";
import { operations } from "../registry/capabilities.ts";
import { OpRecorder } from "./op-recorder.ts";
import { RoundRobinBackend } from "./round-robin-backend.ts";

// What stands between a group and its backends has to pass on every op, or it would refuse what the backend claims.
test.each([
  // Its capability table leaves this one out.
  [RoundRobinBackend, ["monitoredBarrier"]],
  // Ops of several steps are not recorded.
  [OpRecorder, ["allReduceSparse"]],
] as const)("%p has every op", (backend, without) => {
  const missing = operations.filter((op) => !Object.hasOwn(backend.prototype, op));
  expect<readonly string[]>(missing).toEqual(without);
});
