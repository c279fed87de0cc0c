import { addBackendMiddleware } from "../../registry/backend-middleware.ts";
import type { Fault } from "../fault.ts";
import { FaultInjector } from "./fault-injector.ts";
import { OpLogWriter } from "./op-log.ts";
import { watchBackend } from "./watched-backend.ts";

/** Has every backend of this process enter its ops in the log, and the faults strike. */
export function watchRank(place: string | SharedArrayBuffer, faults: readonly Fault[]): void {
  const log = new OpLogWriter(place);
  const injector = new FaultInjector(faults, log);
  addBackendMiddleware((backend, context) => watchBackend(backend, context, log, injector));
}
