import type { InjectionToken } from "tsyringe";
import type { Store } from "../store/index.ts";
import type { Timeout } from "../time/index.ts";

/** What a {@link RendezvousHandler} is given beside the URL. */
export interface RendezvousOptions {
  /** Rank of this process, unless the URL or the environment gives it. */
  readonly rank?: number;
  /** Number of ranks, unless the URL or the environment gives it. */
  readonly worldSize?: number;
  /** Limit of the whole meeting, and of later store calls that give none. Default 300 s. */
  readonly timeout?: Timeout;
  /** Ends the meeting early. */
  readonly signal?: AbortSignal;
  /** Variables to read instead of the process's own. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** What {@link Rendezvous.close} is given. */
export interface RendezvousCloseOptions {
  /** On the process that hosts the store: how long to wait until the others have left it. */
  readonly drainTimeout?: Timeout;
  /** Whether the meeting came to nothing, so that the ranks may try again in the same store. */
  readonly failed?: boolean;
}

/** What the ranks have after they met. */
export interface Rendezvous {
  /** The same for all ranks. */
  readonly store: Store;
  /** Of this process, from 0. */
  readonly rank: number;
  /** Number of ranks. */
  readonly worldSize: number;
  /** Number of the launcher's restart, as it tells it; a launcher may keep the store over restarts. */
  readonly attempt?: string;
  /**
   * For a store that a rank hosts, which takes it along when it leaves. Takes note that the group of this rank is connected;
   * `meeting` is the number of the meeting in the store.
   */
  connected?(meeting: number): Promise<void>;
  /** Whether the host of the store has connected to the others without this rank, and is going to meet it elsewhere. */
  isOver?(meeting: number): Promise<boolean>;
  /** Leaves the store. */
  close?(options?: RendezvousCloseOptions): Promise<void>;
}

/** Makes the ranks of a job meet; `url` is what was asked for, and `text` the same as it was written. */
export type RendezvousHandler = (url: URL, options: RendezvousOptions, text: string) => Promise<Rendezvous>;

/** A handler with the scheme of the URLs that it is for. */
export interface SchemeHandler {
  /** What stands before `://`. */
  readonly scheme: string;
  /** Is called by each rank. */
  readonly handler: RendezvousHandler;
}

/**
 * Token of rendezvous handlers. Each one that is registered in a container, or in those that it was made from, is used by groups
 * that are made with the container; of several for one scheme that of the child, or the one that was registered last.
 *
 * ```ts
 * container.register(RENDEZVOUS_HANDLER, { useValue: { scheme: "consul", handler } });
 * ```
 *
 * docs/containers.md has a handler.
 */
export const RENDEZVOUS_HANDLER: InjectionToken<SchemeHandler> = Symbol.for("bun-c10d.RendezvousHandler");
