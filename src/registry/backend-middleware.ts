import type { Backend } from "./backend.ts";
import type { BackendContext } from "./backend-plugin.ts";

/** Puts a backend around each one that is made: to watch, to check, or to disturb its ops. */
export type BackendMiddleware = (inner: Backend, context: BackendContext) => Backend;

const KEY = Symbol.for("bun-c10d.backend-middleware");
const shared = globalThis as { [KEY]?: BackendMiddleware[] };

/**
 * Puts `middleware` around every backend that this process makes from now on, whatever registry it comes from; the one
 * added last is outermost.
 *
 * @returns Takes it out again; backends that were made in between keep it.
 */
export function addBackendMiddleware(middleware: BackendMiddleware): () => void {
  shared[KEY] ??= [];
  const list = shared[KEY];
  list.push(middleware);
  return () => {
    const at = list.indexOf(middleware);
    if (at >= 0) list.splice(at, 1);
  };
}

/** A backend with all middleware around it. */
export function withMiddleware(backend: Backend, context: BackendContext): Backend {
  return (shared[KEY] ?? []).reduce((inner, middleware) => middleware(inner, context), backend);
}
