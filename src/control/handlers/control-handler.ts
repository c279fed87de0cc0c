import type { InjectionToken } from "tsyringe";
import type { HandlerRequest } from "./handler-request.ts";
import type { HandlerResponse } from "./handler-response.ts";
import type { ServedRank } from "./served-rank.ts";

/** Answers a request by filling in the response. What it throws or rejects with becomes the text of a status 500. */
export type HandlerFunction = (request: HandlerRequest, response: HandlerResponse) => void | Promise<void>;

/** Something that a {@link WorkerServer} does when it is asked to. */
export interface ControlHandler {
  /** The last part of its path, `/handler/<name>`. */
  readonly name: string;
  readonly handle: HandlerFunction;
  /**
   * Whether it is also called while the thread blocks in `wait()`, in the middle of the code that waits. It must not be
   * async then, nor start ops. Default is `false`: it is called when the event loop runs again.
   */
  readonly duringWait?: boolean;
}

/**
 * Token of handlers. Those registered in a container and its parents are served by the worker servers of the container,
 * besides the built-in ones. {@link registerHandler} does the same and checks the name.
 */
export const CONTROL_HANDLER: InjectionToken<ControlHandler> = Symbol.for("bun-c10d.ControlHandler");

/** Makes a handler about the rank of its server. */
export type BuiltInHandler = (served: ServedRank) => ControlHandler;
