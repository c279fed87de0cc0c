import { RedisClient } from "bun";
import {
  DistError,
  DistNetworkError,
  DistStoreError,
  DistTimeoutError,
  descriptorShortage,
  type ErrorDetails,
  messageOf,
  shortageOf,
} from "../../errors/index.ts";
import { msUntil, pause, startTimer } from "../../time/index.ts";
import { storeClosed } from "../store.ts";
import type { RedisPlace } from "./redis-url.ts";

/** Limits of a call. */
export interface RedisCall {
  readonly op: string;
  readonly keys: readonly string[];
  readonly limitMs: number;
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;
}

/** How long a call tries to reconnect. */
const reconnectMs = 5_000;

/**
 * The connection to a Redis server. Commands are pipelined in the order of the calls. When it is lost, those in flight
 * reject, since it is unknown whether they took effect, and the next one reconnects.
 */
export class RedisLink {
  readonly place: RedisPlace;
  readonly #tls: Bun.TLSOptions | undefined;
  readonly #onLost: (error: DistNetworkError) => void;
  #client: RedisClient | undefined;
  #ready: Promise<RedisClient> | undefined;
  #closed = false;

  constructor(
    place: RedisPlace,
    tls: Bun.TLSOptions | undefined,
    onLost: (error: DistNetworkError) => void = () => {},
  ) {
    this.place = place;
    this.#tls = tls;
    this.#onLost = onLost;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /**
   * Connects; retries until the limit.
   * @throws DistTimeoutError `CONNECT_TIMEOUT`; DistStoreError `AUTH_FAILED` and others.
   */
  async connect(call: RedisCall): Promise<void> {
    this.#ready = this.#dial(call);
    this.#ready.catch(() => {});
    await this.#ready;
  }

  /** Runs `command` on the connection, within the limits of the call. */
  run<T>(call: RedisCall, command: (client: RedisClient) => Promise<T>): Promise<T> {
    if (this.#closed) return Promise.reject(storeClosed(call.op));
    if (this.#ready === undefined) {
      const deadline = performance.now() + reconnectMs;
      const ready = this.#dial({ op: "reconnect", keys: [], limitMs: reconnectMs, deadline, signal: undefined });
      this.#ready = ready;
      ready.catch(() => {
        if (this.#ready === ready) this.#ready = undefined;
      });
    }
    return this.#limited(call, this.#ready.then(command));
  }

  close(): void {
    this.#closed = true;
    this.#client?.close();
  }

  async #dial({ op, limitMs, deadline, signal }: RedisCall): Promise<RedisClient> {
    for (let delay = 10; ; delay = Math.min(delay * 1.5, 1_000)) {
      try {
        return await this.#attempt(deadline, signal);
      } catch (error) {
        signal?.throwIfAborted();
        if (this.#closed) throw storeClosed(op);
        if (isRefusal(error)) throw this.#serverError(op, error);
        const left = deadline - performance.now();
        if (left <= 0) throw this.#unreachable(op, limitMs, error);
        await pause(Math.min(delay * (0.5 + Math.random() / 2), left), signal);
      }
    }
  }

  async #attempt(deadline: number, signal: AbortSignal | undefined): Promise<RedisClient> {
    const connectionTimeout = Math.max(1, Math.min(deadline - performance.now(), 10_000));
    // Without its queue the client does not say why the server refused it. It ends with its first connection.
    const client = new RedisClient(this.place.clientUrl, {
      connectionTimeout: Math.ceil(connectionTimeout),
      autoReconnect: false,
      ...(this.#tls === undefined ? {} : { tls: this.#tls }),
    });
    const silent = Promise.withResolvers<never>();
    const timer = startTimer(connectionTimeout, () => silent.reject(new Error("it does not answer")));
    const abort = () => silent.reject(signal?.reason);
    signal?.addEventListener("abort", abort, { once: true });
    let lost = false;
    client.onclose = () => {
      lost = true;
      this.#lose(client);
    };
    try {
      signal?.throwIfAborted();
      await Promise.race([client.send("PING", []), silent.promise]);
      if (lost || this.#closed) throw new Error("the connection was closed");
    } catch (error) {
      client.close();
      throw error;
    } finally {
      timer[Symbol.dispose]();
      signal?.removeEventListener("abort", abort);
    }
    this.#client = client;
    return client;
  }

  #lose(client: RedisClient): void {
    if (this.#client !== client) return;
    this.#client = undefined;
    this.#ready = undefined;
    if (!this.#closed) this.#onLost(this.#lost("a wait"));
  }

  #limited<T>(call: RedisCall, pending: Promise<T>): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const abort = () => reject(call.signal?.reason);
    const timer = startTimer(msUntil(call.deadline), () => reject(this.#silent(call)));
    call.signal?.addEventListener("abort", abort, { once: true });
    pending.then(resolve, (error: unknown) => reject(this.#failure(call, error)));
    return promise.finally(() => {
      timer[Symbol.dispose]();
      call.signal?.removeEventListener("abort", abort);
    });
  }

  get #details(): ErrorDetails {
    const { host, port } = this.place;
    return port === undefined ? { host } : { host, port };
  }

  #failure(call: RedisCall, error: unknown): unknown {
    if (this.#closed) return storeClosed(call.op);
    if (error instanceof DistError) return error;
    return isRefusal(error) ? this.#serverError(call.op, error) : this.#lost(call.op, call.keys, error);
  }

  #lost(op: string, keys: readonly string[] = [], cause?: unknown): DistNetworkError {
    return new DistNetworkError(
      `store ${op}: the connection to the Redis server at ${this.place.name} was lost; whether the call took effect is unknown. The next call reconnects.`,
      { ...this.#details, code: "CONNECTION_LOST", op, keys: [...keys], cause },
    );
  }

  #silent({ op, keys, limitMs }: RedisCall): DistTimeoutError {
    return new DistTimeoutError(
      `store ${op}: the Redis server at ${this.place.name} did not answer within ${Math.round(limitMs)} ms`,
      { ...this.#details, code: "STORE_TIMEOUT", op, keys: [...keys], timeoutMs: limitMs },
    );
  }

  #unreachable(op: string, limitMs: number, cause: unknown): DistError {
    const reason = messageOf(cause);
    const message =
      `cannot reach the Redis server at ${this.place.name} within ${Math.round(limitMs)} ms (last: ${reason}). ` +
      "Is it running, does it listen there, and is the scheme (redis or rediss) right?";
    const init = { ...this.#details, op, timeoutMs: limitMs, cause };
    const shortage = shortageOf(cause) ?? descriptorShortage();
    if (shortage !== undefined) {
      const what = `cannot reach the Redis server at ${this.place.name}`;
      return new DistNetworkError(`${what}: ${shortage.text}`, { ...init, code: shortage.code });
    }
    // The limit of a reconnect is our own, that of a connect the caller's.
    return op === "reconnect"
      ? new DistNetworkError(message, { ...init, code: "CONNECTION_LOST" })
      : new DistTimeoutError(message, { ...init, code: "CONNECT_TIMEOUT" });
  }

  #serverError(op: string, cause: unknown): DistStoreError {
    const { code, message } = cause as Error & { code?: unknown };
    // Redis's own code is the first word of its reply, which Bun passes on only as a text.
    const isLogin = code === "ERR_REDIS_AUTHENTICATION_FAILED" || /^(NOAUTH|WRONGPASS|NOPERM)\b/.test(message);
    const hint = isLogin ? " Put user and password into the URL: redis://user:password@host." : "";
    return new DistStoreError(`store ${op}: the Redis server at ${this.place.name} refused: ${message}.${hint}`, {
      ...this.#details,
      code: isLogin ? "AUTH_FAILED" : "SERVER_REFUSED",
      op,
      cause,
    });
  }
}

/** Whether the server answered with an error. */
function isRefusal(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return (
    code === "ERR_REDIS_SERVER_ERROR" ||
    code === "ERR_REDIS_AUTHENTICATION_FAILED" ||
    code === "ERR_REDIS_INVALID_COMMAND"
  );
}
