import type { DependencyContainer } from "tsyringe";
import { requireOptionNames } from "../../collectives/option-names.ts";
import { describe, InvalidArgumentError } from "../../errors/index.ts";
import { defaultContainer, requireContainer, resolveEverywhere } from "../../registry/index.ts";
import { type BuiltInHandler, CONTROL_HANDLER, type ControlHandler, type HandlerFunction } from "./control-handler.ts";

/** Where {@link getHandler} and {@link getHandlerNames} look. */
export interface HandlerScope {
  /** Default: the one that `initProcessGroup()` uses. */
  readonly container?: DependencyContainer;
}

/** Options of {@link registerHandler}. */
export interface RegisterHandlerOptions extends HandlerScope, Pick<ControlHandler, "duringWait"> {}

/**
 * Adds a handler to the worker servers of a container, those that already run included.
 *
 * ```ts
 * registerHandler("step", (_, response) => response.setContent(String(step), "text/plain"));
 * ```
 *
 * @throws InvalidArgumentError for a name that is taken, is empty or has a `/`.
 *
 * c10d: `_register_handler`, whose handlers belong to the process.
 */
export function registerHandler(name: string, handle: HandlerFunction, options: RegisterHandlerOptions = {}): void {
  requireOptionNames<RegisterHandlerOptions>("registerHandler", options, { container: true, duringWait: true });
  const { container = defaultContainer(), duringWait = false } = options;
  requireContainer("registerHandler", container);
  if (typeof name !== "string" || name === "" || name.includes("/")) {
    throw new InvalidArgumentError(
      `registerHandler: a name is a part of a path, so it is not empty and has no "/"; got ${describe(name)}`,
      { argument: "name" },
    );
  }
  if (typeof handle !== "function") {
    throw new InvalidArgumentError(`registerHandler: the handler must be a function, got ${describe(handle)}`, {
      argument: "handle",
    });
  }
  if (handlersOf(container).has(name)) {
    throw new InvalidArgumentError(`Handler ${name} already registered`, { code: "HANDLER_EXISTS", argument: "name" });
  }
  container.register(CONTROL_HANDLER, { useValue: { name, handle, duringWait } });
}

/**
 * The function of a handler.
 * @throws InvalidArgumentError when there is none of this name.
 *
 * c10d: `_get_handler`.
 */
export function getHandler(name: string, { container = defaultContainer() }: HandlerScope = {}): HandlerFunction {
  const found = handlersOf(container).get(name);
  if (found !== undefined) return found.handle;
  throw new InvalidArgumentError(notFound(name), { code: "UNKNOWN_HANDLER", argument: "name" });
}

/** The names of all handlers. c10d: `_get_handler_names`. */
export function getHandlerNames({ container = defaultContainer() }: HandlerScope = {}): string[] {
  return [...handlersOf(container).keys()];
}

/** The handlers of a container by name; a child's take precedence over its parents', and any over a built-in one. */
export function handlersOf(container: DependencyContainer, globalRank?: number): Map<string, ControlHandler> {
  const builtIn = builtIns().map((make) => make({ container, globalRank }));
  const all = [...builtIn, ...resolveEverywhere(container, CONTROL_HANDLER)];
  return new Map(all.map((each) => [each.name, each]));
}

/** Loaded for the first question: most processes have no server. */
function builtIns(): readonly BuiltInHandler[] {
  return (require("./built-in-handlers.ts") as typeof import("./built-in-handlers.ts")).builtInHandlers;
}

/** c10d's text about an unknown name. */
export function notFound(name: string): string {
  return `Failed to find handler ${name}`;
}
