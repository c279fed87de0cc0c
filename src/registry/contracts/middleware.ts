import type { InjectionToken } from "tsyringe";
import type { DistError } from "../../errors/index.ts";
import type { Store } from "../../store/store.ts";
import type { Device } from "../../tensor/index.ts";
import type { Clock } from "../services/clock.ts";
import type { Logger } from "../services/logger.ts";
import type { Backend, Submit } from "./backend.ts";
import type { Capabilities } from "./capabilities.ts";

/** What a {@link Middleware} knows of the group that it is put into, which is on one device. */
export interface GroupContext {
  /** "0" is the default group. */
  readonly groupName: string;
  /** What the group is for, as whoever made it has said. */
  readonly groupDescription: string;
  /** Rank in the group. */
  readonly rank: number;
  /** Number of ranks in the group. */
  readonly size: number;
  /** Global rank of each rank of the group. */
  readonly globalRanks: readonly number[];
  /** Where the tensors of all calls are. */
  readonly device: Device;
  /** Name of the backend. */
  readonly backend: string;
  /** What the backend can do. */
  readonly capabilities: Capabilities;
  /** Limit of ops that give none, in milliseconds. */
  readonly timeoutMs: number;
  /** Store of this group, device and middleware alone: keys need no prefix. */
  readonly store: Store;
  /** Says middleware, group and rank by itself. */
  readonly logger: Logger;
  /** The clock for delays and limits: that of the container, which may be one that a test sets. */
  readonly clock: Clock;
  /**
   * Makes a second backend of the same kind for the same ranks, to exchange something beside the ops of the group, which
   * closes it. All ranks call it as often and in the same order.
   */
  helperGroup(): Promise<Backend>;
  /** Fails the group: what is in flight rejects, and later ops reject with this error as their cause. */
  fail(error: DistError): void;
  /**
   * Calls `listener`, once, when the group has failed, is aborted or is closed, at once if it has: to end the Works that the
   * middleware holds.
   */
  onAbort(listener: (reason: string) => void): void;
  /** Calls `listener` when the group is closed, to release what the middleware has. */
  onClose(listener: () => void | Promise<void>): void;
}

/**
 * A layer between process groups and their backends, of whatever kind these are. It sees every call as an {@link OpCall} and
 * every Work that stands for one, and may count, change, hold back or refuse calls, and replace Works. It is registered under
 * {@link BACKEND_MIDDLEWARE}; docs/wrap-a-backend.md has examples.
 *
 * The function that `create` returns is given the next `submit`, of another middleware or of the backend, and returns its
 * own, which keeps the rules of {@link Backend.submit}:
 * - It never throws, and returns one new Work for each call, in their order.
 * - It passes on the array of calls and the array of Works unless it changes something: it is called for every op. What it
 *   changes, it copies.
 * - If it holds a collective back, it holds back the collectives that follow, since all ranks keep one order. It never holds
 *   back messages, which a peer may want before it comes to the collective.
 * - A call of the op `refused` stands for a collective that this rank has refused, and goes on in its place.
 */
export interface Middleware {
  /** For messages, and for the keys of its store; of several with one name, the store and helper groups are apart. */
  readonly name: string;
  /** Called once for each group and device, on all ranks, before the first op. */
  create(context: GroupContext): ((next: Submit) => Submit) | Promise<(next: Submit) => Submit>;
}

/**
 * Token of {@link Middleware}. Every group that is made with a container gets each one that is registered there or in a
 * container that it was made from. What was registered first is outermost, and what parents have is outside of what their
 * children have.
 *
 * ```ts
 * container.register(BACKEND_MIDDLEWARE, { useValue: metrics });
 * ```
 */
export const BACKEND_MIDDLEWARE: InjectionToken<Middleware> = Symbol.for("bun-c10d.BackendMiddleware");
