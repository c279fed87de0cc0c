import "reflect-metadata";
import { container } from "tsyringe";
import { currentContext, type DistContext } from "../../distributed/dist-context.ts";
import { BACKEND_MIDDLEWARE, type Middleware } from "../../registry/index.ts";
import type { Fault } from "../fault.ts";
import { FaultInjector } from "./fault-injector.ts";
import { OpLogWriter } from "./op-log.ts";
import { watchOps } from "./op-watch.ts";

/** Records the ops of every group of this process in the log, and applies the faults, whatever its container. */
export function watchRank(place: string | SharedArrayBuffer, faults: readonly Fault[]): void {
  const log = new OpLogWriter(place);
  const injector = new FaultInjector(faults, log);
  watchAll({ name: "watch", create: (context) => watchOps(context, log, injector) });
}

/** The contexts whose groups are watched. */
const logs = new WeakMap<DistContext, OpLogWriter>();

/** Watches only the groups that are made in one of the contexts. */
const contextWatch: Middleware = {
  name: "watch",
  create(context) {
    const log = logs.get(currentContext());
    return log === undefined ? (next) => next : watchOps(context, log, new FaultInjector([], log));
  },
};

/** Records the ops of every group that is made in this context from now on. */
export function watchContext(context: DistContext, place: SharedArrayBuffer): void {
  logs.set(context, new OpLogWriter(place));
  watchAll(contextWatch);
}

/** All containers are children of tsyringe's root, and have its middleware outermost. */
function watchAll(watch: Middleware): void {
  // tsyringe cannot unregister anything: the middleware stays, and does nothing.
  const known = container.isRegistered(BACKEND_MIDDLEWARE) ? container.resolveAll(BACKEND_MIDDLEWARE) : [];
  if (!known.includes(watch)) container.register(BACKEND_MIDDLEWARE, { useValue: watch });
}
