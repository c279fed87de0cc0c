import { type DistError, DistNetworkError, DistTimeoutError } from "../../../errors/index.ts";
import { msUntil, pause, startTimer } from "../../../time/index.ts";
import { storeClosed } from "../../store.ts";
import { hostPort } from "../host-address.ts";
import { joinKey } from "../wire/protocol.ts";
import { readBytes } from "../wire/reply.ts";
import { type AnyCall, Call, type CallLimit, type Request } from "./call.ts";
import type { Timing } from "./call-counters.ts";
import { type Connection, interrupt, type Loss } from "./connection.ts";
import { isRefusal, outcomeUnknown, shown, withOp } from "./connection-errors.ts";
import { dial } from "./dial.ts";
import { checkingRaw, getRaw } from "./requests.ts";

/** How often a call is sent to a server that hangs up on it each time. */
const maxSent = 6;
const sameServerLimitMs = 10_000;
/** The pause before the next attempt after a connection broke while the server was being identified. */
const retryPauseMs = 50;

/**
 * The connection of a client to its server, and after it broke, the next one.
 *
 * Only calls that change nothing are sent again. A write that may have arrived rejects with `OUTCOME_UNKNOWN`, since
 * another client may have written in the meantime. If a write was already reported as sent and no reply came after it,
 * the calls in flight reject, or else the next one. There is no next connection when the server has exited (its port is
 * closed) or another one has replaced it: then every call rejects.
 */
export class ServerLink {
  /** The number of joined clients when this one was counted. */
  joinedAs: number | undefined;
  #main: Connection;
  #reopening: { readonly done: Promise<Connection>; readonly abort: AbortController; waiting: number } | undefined;
  #dead: DistError | undefined;
  #unreported: DistError | undefined;

  constructor(main: Connection) {
    this.#main = main;
    main.onLoss = (loss) => this.#lose(loss);
  }

  /** The last connection, which may be broken. */
  get main(): Connection {
    return this.#main;
  }

  request<T>(request: Request<T>, limit: CallLimit, timing?: Timing): Promise<T> {
    return new Promise<T>((resolve, reject) => this.#send(new Call(request, limit, timing, resolve, reject)));
  }

  /** The open connection, or the next one. */
  connected(op: string, keys: readonly string[], limit: CallLimit): Connection | Promise<Connection> {
    const unreported = this.#unreported;
    this.#unreported = undefined;
    if (unreported) return Promise.reject(unreported);
    return this.#main.failure === undefined ? this.#main : this.#reopened(op, keys, limit);
  }

  /** A further connection to the same server. */
  async openAnother(op: string, keys: readonly string[], limit: CallLimit): Promise<Connection> {
    const main = await this.connected(op, keys, limit);
    const { host, port, secret } = main.endpoint;
    const connection = await dial(host, port, limit, secret, { resuming: true });
    if (connection.serverIdentity === main.serverIdentity) return connection;
    connection.close();
    throw withOp(otherServer(main), op, keys);
  }

  close(): void {
    this.#dead ??= storeClosed("a call");
    this.#reopening?.abort.abort(this.#dead);
    this.#main.close();
  }

  #send(call: AnyCall): void {
    const unreported = this.#unreported;
    if (unreported === undefined && this.#main.failure === undefined) this.#main.send(call);
    else if (unreported === undefined) {
      call.freeze();
      void this.#resume(call);
    } else {
      this.#unreported = undefined;
      call.reject(unreported);
    }
  }

  async #resume(call: AnyCall): Promise<void> {
    const { limit, request } = call;
    if (limit === undefined) return;
    try {
      let connection = await this.#reopened(request.op, request.keys, limit);
      while (connection.failure) connection = await this.#reopened(request.op, request.keys, limit);
      connection.send(call);
    } catch (error) {
      call.reject(error);
    }
  }

  #lose({ error, calls, unconfirmed }: Loss): void {
    const main = this.#main;
    const hopeless = error.code !== "CONNECTION_LOST" || (!main.ownDialect && this.joinedAs === undefined);
    if (hopeless) this.#dead ??= error;
    const doubt = unconfirmed && outcomeUnknown(error, unconfirmed);
    if (doubt && calls.length === 0 && !hopeless) this.#unreported = doubt;
    for (const { call, sent } of calls) {
      if (doubt && !hopeless) call.reject(doubt);
      else if (hopeless)
        call.reject(sent && !call.request.repeatable ? outcomeUnknown(error, call) : named(error, call));
      else if (!call.request.onLost && call.request.repeatable && call.sent < maxSent) void this.#resume(call);
      else interrupt(call, sent, error);
    }
  }

  async #reopened(op: string, keys: readonly string[], limit: CallLimit): Promise<Connection> {
    this.#checkAlive(op, keys);
    limit.signal?.throwIfAborted();
    this.#reopening ??= this.#startReopening();
    const reopening = this.#reopening;
    const late = Promise.withResolvers<never>();
    const abort = () => late.reject(limit.signal?.reason);
    limit.signal?.addEventListener("abort", abort, { once: true });
    const timer = startTimer(msUntil(limit.deadline), () => late.reject(this.#notAgain(op, keys, limit)));
    reopening.waiting++;
    try {
      return await Promise.race([reopening.done, late.promise]);
    } catch (error) {
      this.#checkAlive(op, keys);
      throw error;
    } finally {
      timer[Symbol.dispose]();
      limit.signal?.removeEventListener("abort", abort);
      if (--reopening.waiting === 0) {
        reopening.abort.abort(new Error("no call waits for the connection any more"));
        if (this.#reopening === reopening) this.#reopening = undefined;
      }
    }
  }

  #checkAlive(op: string, keys: readonly string[]): void {
    if (this.#dead) throw this.#dead.code === "STORE_CLOSED" ? storeClosed(op) : withOp(this.#dead, op, keys);
  }

  #startReopening() {
    const abort = new AbortController();
    const done = this.#reopen(abort.signal);
    done.catch(() => {});
    return { done, abort, waiting: 0 };
  }

  /** Reconnects; if that is impossible, `#dead` is the reason. */
  async #reopen(signal: AbortSignal): Promise<Connection> {
    const lost = this.#main;
    const { host, port, secret } = lost.endpoint;
    const began = performance.now();
    const forever = { began, deadline: Number.POSITIVE_INFINITY, ms: Number.POSITIVE_INFINITY, signal };
    try {
      for (;;) {
        const connection = await dial(host, port, forever, secret, { resuming: true });
        const same = await this.#isSame(connection, signal).catch(() => undefined);
        if (signal.aborted || same !== true) connection.close();
        signal.throwIfAborted();
        if (same === false) throw otherServer(lost);
        if (same === undefined) {
          await pause(retryPauseMs * (0.5 + Math.random()), signal);
          continue;
        }
        connection.onLoss = (loss) => this.#lose(loss);
        this.#main = connection;
        return connection;
      }
    } catch (error) {
      if (signal.aborted) throw error;
      this.#dead ??= isRefusal(error) ? (lost.failure ?? otherServer(lost)) : asNetworkError(error, lost);
      throw this.#dead;
    }
  }

  /** Whether the server is still the same one; another one lacks what this client wrote. */
  async #isSame(connection: Connection, signal: AbortSignal): Promise<boolean> {
    const lost = this.#main;
    if (lost.ownDialect || connection.ownDialect) return connection.serverIdentity === lost.serverIdentity;
    // PyTorch's servers have no identity, but only the same one has counted this client.
    const began = performance.now();
    const limit = { began, deadline: began + sameServerLimitMs, ms: sameServerLimitMs, signal };
    // The legacy one hangs up on a GET of an absent key.
    if (!(await connection.request(checkingRaw("connect", joinKey), limit))) return false;
    const count = await connection.request(getRaw("connect", joinKey, readBytes), limit);
    return Number(new TextDecoder().decode(count)) >= (this.joinedAs ?? Number.POSITIVE_INFINITY);
  }

  #notAgain(op: string, keys: readonly string[], limit: CallLimit): DistTimeoutError {
    const { host, port } = this.#main.endpoint;
    return new DistTimeoutError(
      `store ${op}${keys.length > 0 ? ` (key ${shown(keys)})` : ""}: the connection to the store server at ${hostPort(host, port)} was lost and could not be re-established within ${Math.round(limit.ms)} ms. Is the network down, or the process that hosts it stopped?`,
      { code: "STORE_TIMEOUT", op, keys: [...keys], timeoutMs: limit.ms, host, port, cause: this.#main.failure },
    );
  }
}

function named(error: DistError, call: AnyCall): DistError {
  return withOp(error, call.request.op, call.request.keys);
}

function asNetworkError(error: unknown, { endpoint: { host, port } }: Connection): DistError {
  if (error instanceof DistNetworkError) return error;
  return new DistNetworkError(
    `the connection to the store server at ${hostPort(host, port)} cannot be re-established`,
    {
      code: "CONNECTION_LOST",
      host,
      port,
      cause: error,
    },
  );
}

function otherServer({ endpoint: { host, port } }: Connection): DistNetworkError {
  return new DistNetworkError(
    `the store server at ${hostPort(host, port)} is not the one that this store was connected to: it was restarted and has lost its contents. Restart the job.`,
    { code: "SERVER_RESTARTED", host, port },
  );
}
