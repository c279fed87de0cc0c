import type { HttpServerLimits, ListenAddress } from "../http/http-server.ts";

/** Starts the server of a {@link WorkerServer} in its Worker. */
export interface StartCommand {
  readonly kind: "start";
  readonly address: ListenAddress;
  /** What requests have to know; none on a Unix socket, whose file only this user can open. */
  readonly token: string | undefined;
  readonly limits: HttpServerLimits & CallLimits;
  /** To the thread that has the handlers. */
  readonly port: MessagePort;
  /** For {@link StartReport}. */
  readonly report: SharedArrayBuffer;
}

/** Limits of a handler's call. */
export interface CallLimits {
  /** How long the other thread may take to begin. */
  readonly reachMs: number;
  /** How long the handler may take. */
  readonly handlerMs: number;
  /** Calls that may be running, including those that were given up. */
  readonly calls: number;
}

/** To the thread that has the handlers. */
export type CallMessage =
  | { readonly kind: "names"; readonly id: number; readonly until: number }
  | {
      readonly kind: "call";
      readonly id: number;
      /** When it is too late to begin, by `Date.now()`. */
      readonly until: number;
      /** How long it may be put off while the thread blocks, in milliseconds. */
      readonly patienceMs: number;
      readonly name: string;
      readonly params: readonly (readonly [string, string])[];
      readonly body: Uint8Array;
    };

/** What a handler has answered. */
export interface CallAnswer {
  readonly status: number;
  readonly contentType: string | undefined;
  readonly body: Uint8Array;
}

/** From the thread that has the handlers. */
export type CallReply =
  | { readonly kind: "begun"; readonly id: number }
  /** The thread blocks in `wait()`, and the handler runs only when it no longer does. */
  | { readonly kind: "deferred"; readonly id: number }
  | { readonly kind: "answered"; readonly id: number; readonly answer: CallAnswer };
