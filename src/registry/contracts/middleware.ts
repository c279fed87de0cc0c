import type { InjectionToken } from "tsyringe";
import type { DistError } from "../../errors/index.ts";
import type { Store } from "../../store/store.ts";
import type { Device } from "../../tensor/index.ts";
import type { Clock } from "../services/clock.ts";
import type { Logger } from "../services/logger.ts";
import type { Backend, Submit } from "./backend.ts";
import type { Capabilities } from "./capabilities.ts";

/** What a {@link Middleware} knows of its group, which is on one device. */
export interface GroupContext {
  /** "0" is the default group. */
  readonly groupName: string;
  /** What the group is for, as given when it was created. */
  readonly groupDescription: string;
  /** Rank in the group. */
  readonly rank: number;
  /** Number of ranks in the group. */
  readonly size: number;
  /** Global rank of each rank of the group. */
  readonly globalRanks: readonly number[];
  /** Device of the tensors of all calls. */
  readonly device: Device;
  /** Name of the backend. */
  readonly backend: string;
  /** What the backend can do. */
  readonly capabilities: Capabilities;
  /** Time-out of ops without their own, in milliseconds. */
  readonly timeoutMs: number;
  /** Store of this group, device and middleware alone: keys need no prefix. */
  readonly store: Store;
  /** The logger of the container; adds middleware, group and rank to each message. */
  readonly logger: Logger;
  /** The clock for delays and time-outs: that of the container, which a test may replace. */
  readonly clock: Clock;
  /**
   * Creates a second backend of the same kind for the same ranks, to exchange data besides the ops of the group, which
   * closes it. All ranks must call it equally often and in the same order.
   */
  helperGroup(): Promise<Backend>;
  /** Fails the group: ops in flight reject, and later ops reject with this error as their cause. */
  fail(error: DistError): void;
  /**
   * Calls `listener` once when the group has failed, is aborted or is closed, at once if that has happened: to end the
   * Works that the middleware holds. `isClosed` tells whether it was closed, which is not a failure.
   */
  onAbort(listener: (reason: string, isClosed: boolean) => void): void;
  /** Calls `listener` when the group is closed, to release the middleware's resources. */
  onClose(listener: () => void | Promise<void>): void;
}

/**
 * A layer between process groups and their backends, of any kind. It sees every call as an {@link OpCall} and its Work,
 * and may count, change, delay or refuse calls, and replace Works. It is registered under
 * {@link BACKEND_MIDDLEWARE}; docs/wrap-a-backend.md has examples.
 *
 * The function that `create` returns is given the next `submit`, of another middleware or of the backend, and returns
 * its own, which follows the rules of {@link Backend.submit}:
 * - It never throws, and returns one new Work for each call, in their order.
 * - It passes on the array of calls and the array of Works unless it changes something: it is called for every op. It
 *   copies what it changes.
 * - If it delays a collective, it delays the collectives that follow, since all ranks keep the same order. It never
 *   delays messages, which a peer may need before it calls the collective.
 * - A call of the op `refused` stands for a collective that this rank refused, and is passed on in its place.
 */
export interface Middleware {
  /** For messages and the keys of its store; several with the same name have separate stores and helper groups. */
  readonly name: string;
  /** Called once for each group and device, on all ranks, before the first op. */
  create(context: GroupContext): ((next: Submit) => Submit) | Promise<(next: Submit) => Submit>;
}

/**
 * Token of {@link Middleware}. Every group of a container gets each one that is registered there or in a parent of the
 * container. The first registered is outermost, and those of a parent are outside those of its children.
 *
 * ```ts
 * container.register(BACKEND_MIDDLEWARE, { useValue: metrics });
 * ```
 */
export const BACKEND_MIDDLEWARE: InjectionToken<Middleware> = Symbol.for("bun-c10d.BackendMiddleware");
