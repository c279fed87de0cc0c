import type { InjectionToken } from "tsyringe";
import type { Store } from "../store/index.ts";
import type { Timeout } from "../time/index.ts";

/** What a {@link RendezvousHandler} takes besides the URL. */
export interface RendezvousOptions {
  /** Rank of this process, unless the URL or the environment gives it. */
  readonly rank?: number;
  /** Number of ranks, unless the URL or the environment gives it. */
  readonly worldSize?: number;
  /** Time-out of the whole meeting, and of later store calls without their own. Default 300 s. */
  readonly timeout?: Timeout;
  /** Cancels the meeting. */
  readonly signal?: AbortSignal;
  /** Variables to read instead of the process's own. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** What {@link Rendezvous.close} takes. */
export interface RendezvousCloseOptions {
  /** On the process that hosts the store: how long to wait until the others have disconnected. */
  readonly drainTimeout?: Timeout;
  /** Whether the meeting failed, so that the ranks may try again in the same store. */
  readonly failed?: boolean;
}

/** The result of a meeting. */
export interface Rendezvous {
  /** The same for all ranks. */
  readonly store: Store;
  /** Rank of this process, from 0. */
  readonly rank: number;
  /** Number of ranks. */
  readonly worldSize: number;
  /** Number of the launcher's restart, as it reports it; a launcher may keep the store across restarts. */
  readonly attempt?: string;
  /**
   * For a store that a rank hosts, and that ends when this rank leaves. Records that the group of this rank is
   * connected; `meeting` is the number of the meeting in the store.
   */
  connected?(meeting: number): Promise<void>;
  /** Whether the host of the store has connected to the others without this rank, and is going to meet it elsewhere. */
  isOver?(meeting: number): Promise<boolean>;
  /** Closes the store. */
  close?(options?: RendezvousCloseOptions): Promise<void>;
}

/** Makes the ranks of a job meet; `url` is the parsed `text`. */
export type RendezvousHandler = (url: URL, options: RendezvousOptions, text: string) => Promise<Rendezvous>;

/** A handler and the scheme of its URLs. */
export interface SchemeHandler {
  /** What stands before `://`. */
  readonly scheme: string;
  /** Called by each rank. */
  readonly handler: RendezvousHandler;
}

/**
 * Token of rendezvous handlers. Groups that are created with a container use the handlers registered in it and in its
 * parents. Of several for one scheme, that of the child is used, or the one that was registered last.
 *
 * ```ts
 * container.register(RENDEZVOUS_HANDLER, { useValue: { scheme: "consul", handler } });
 * ```
 *
 * docs/containers.md has a handler.
 */
export const RENDEZVOUS_HANDLER: InjectionToken<SchemeHandler> = Symbol.for("bun-c10d.RendezvousHandler");
