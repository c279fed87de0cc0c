import { currentContext, type DistContext } from "../../distributed/dist-context.ts";
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

/**
 * Has every backend that is made in one of these contexts enter its ops in the log of that context.
 *
 * @returns Ends this for backends that are made from then on.
 */
export function watchContexts(logs: ReadonlyMap<DistContext, OpLogWriter>): () => void {
  return addBackendMiddleware((backend, context) => {
    const log = logs.get(currentContext());
    return log === undefined ? backend : watchBackend(backend, context, log, new FaultInjector([], log));
  });
}
