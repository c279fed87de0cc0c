import { type DistError, DistNetworkError, DistTimeoutError } from "../../errors/index.ts";
import { storeClosed } from "../store.ts";
import { proveToServer, secretRequired, secretWanted } from "./handshake.ts";
import { hostPort } from "./host-address.ts";
import { InputBuffer } from "./input-buffer.ts";
import { OutputBuffer } from "./output-buffer.ts";
import { dialectMark, QueryType, validateMagic, waitReply } from "./protocol.ts";
import { badReply, incomplete, type ReplyReader, readU8, readU32 } from "./reply.ts";
import type { StoreSecret } from "./store-secret.ts";

/** When a call ends at the latest. */
export interface CallLimit {
  /** On the clock of `performance.now()`. */
  readonly deadline: number;
  /** The time-out that the caller gave, for messages. */
  readonly ms: number;
  readonly signal?: AbortSignal | undefined;
}

/** Where a connection goes: `address` is one of the addresses of `host`. */
export interface Endpoint {
  readonly host: string;
  readonly address: string;
  readonly port: number;
  /** What both ends prove to know before anything else; without it they speak PyTorch's open protocol. */
  readonly secret?: StoreSecret | undefined;
}

/** How a WAIT or BARRIER ended. */
export type WaitOutcome = "ready" | "cancelled";

/** A WAIT that is under way. */
export interface PendingWait {
  readonly outcome: Promise<WaitOutcome>;
  /** Asks the server to end it; `outcome` tells which came first. */
  cancel(): void;
  /** Asks the server to end it and makes `outcome` reject now. */
  abandon(reason: unknown): void;
}

/** Something that awaits its reply, or that its bytes leave. */
interface Pending {
  readonly op: string;
  readonly keys: readonly string[];
  /** Consumes the reply; false while it is incomplete. */
  readonly read: (input: InputBuffer) => boolean;
  readonly reject: (error: unknown) => void;
  readonly limit: CallLimit | undefined;
  readonly abort: (() => void) | undefined;
  /** Where its bytes end in the stream. */
  readonly end: number;
  /** Whether somebody still wants the result; replies to the others are read and dropped. */
  live: boolean;
}

type Socket = Bun.Socket<undefined>;

/**
 * One connection to a TCPStore server. Requests are pipelined: they go out together at the end of the current
 * microtask, and their replies come in the same order. It holds the process while somebody waits for a reply, and only
 * then.
 */
export class Connection {
  readonly endpoint: Endpoint;
  readonly #output = new OutputBuffer();
  readonly #input = new InputBuffer();
  readonly #replies: Pending[] = [];
  #repliesHead = 0;
  /** Requests without a reply whose bytes have not left. */
  #writes: Pending[] = [];
  #socket: Socket | undefined;
  #failure: DistError | undefined;
  #live = 0;
  #flushing = false;
  #wait: { cancel(): void } | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #ownDialect = false;

  private constructor(endpoint: Endpoint) {
    this.endpoint = endpoint;
  }

  /**
   * Connects and shakes hands, within the limit.
   * @throws DistNetworkError when nobody listens there, or somebody else; DistTimeoutError `CONNECT_TIMEOUT`.
   */
  static async open(endpoint: Endpoint, limit: CallLimit): Promise<Connection> {
    const connection = new Connection(endpoint);
    const gaveUp = Promise.withResolvers<never>();
    gaveUp.promise.catch(() => {});
    const abort = () => gaveUp.reject(limit.signal?.reason);
    limit.signal?.throwIfAborted();
    limit.signal?.addEventListener("abort", abort, { once: true });
    const timer = setTimeout(
      () => gaveUp.reject(connection.#silent()),
      Math.min(Math.max(limit.deadline - performance.now(), 0), 0x7fff_ffff),
    );
    const opened = connection.#connect();
    try {
      await Promise.race([opened, gaveUp.promise]);
      await Promise.race([connection.#handshake(), gaveUp.promise]);
      return connection;
    } catch (error) {
      opened.catch(() => {}).finally(() => connection.close());
      throw error;
    } finally {
      clearTimeout(timer);
      limit.signal?.removeEventListener("abort", abort);
    }
  }

  /** Whether the server is of this package; see {@link dialectMark}. */
  get ownDialect(): boolean {
    return this.#ownDialect;
  }

  /** Whether no reply is outstanding. */
  get idle(): boolean {
    return this.#repliesHead === this.#replies.length;
  }

  /** Why it is of no use any more. */
  get failure(): DistError | undefined {
    return this.#failure;
  }

  /** Local address of the connection. */
  get localAddress(): string | undefined {
    return this.#socket?.localAddress;
  }

  /** Sends a request; resolves to its reply. A WAIT that is under way here is cancelled first. */
  request<T>(
    op: string,
    keys: readonly string[],
    write: (output: OutputBuffer) => void,
    reader: ReplyReader<T>,
    limit?: CallLimit,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#ready(op, limit, reject)) this.#send(op, keys, write, reader, limit, resolve, reject);
    });
  }

  /** Sends a request that has no reply; resolves when its bytes have left. */
  post(op: string, keys: readonly string[], write: (output: OutputBuffer) => void, limit?: CallLimit): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      if (!this.#ready(op, limit, reject)) return;
      this.#wait?.cancel();
      write(this.#output);
      this.#expect(op, keys, limit, reject, this.#writes, () => {
        resolve();
        return true;
      });
    });
  }

  /** Sends a WAIT or BARRIER. Requests that come later cancel it, so that they are not held up by it. */
  wait(op: string, keys: readonly string[], write: (output: OutputBuffer) => void): PendingWait {
    let cancelled = false;
    let arrived = false;
    const wait = {
      cancel: () => {
        if (cancelled || this.#wait !== wait) return;
        cancelled = true;
        this.#output.u8(QueryType.CANCEL_WAIT);
        this.#scheduleFlush();
      },
    };
    const reader: ReplyReader<WaitOutcome> = (input) => {
      for (;;) {
        const byte = readU8(input);
        if (byte === incomplete) return incomplete;
        if (byte === waitReply.STOP_WAITING && !arrived) {
          arrived = true;
          // A cancellation that crossed the arrival is answered all the same.
          if (cancelled) continue;
        } else if (byte !== waitReply.WAIT_CANCELED || !cancelled) {
          throw badReply(`byte ${byte} in answer to a WAIT`);
        }
        if (this.#wait === wait) this.#wait = undefined;
        return arrived ? "ready" : "cancelled";
      }
    };
    let pending: Pending | undefined;
    const outcome = new Promise<WaitOutcome>((resolve, reject) => {
      if (!this.#ready(op, undefined, reject)) return;
      pending = this.#send(op, keys, write, reader, undefined, resolve, reject);
      this.#wait = wait;
    });
    const abandon = (reason: unknown) => {
      wait.cancel();
      if (pending) this.#abandon(pending, reason);
    };
    return { outcome, cancel: wait.cancel, abandon };
  }

  /** Ends the connection; what is pending rejects. */
  close(): void {
    if (this.#failure === undefined) {
      this.#output.flush(this.#sink);
      this.#fail(storeClosed("a call"), true);
    }
    this.#socket?.end();
  }

  async #connect(): Promise<void> {
    const { address, port, host } = this.endpoint;
    try {
      this.#socket = await Bun.connect({
        hostname: address,
        port,
        socket: {
          open: (socket) => {
            socket.setNoDelay(true);
            socket.setKeepAlive(true, 30_000);
          },
          data: (_, chunk) => this.#receive(chunk),
          drain: () => this.#flush(),
          close: (_, error) => this.#fail(this.#lost(error)),
          error: (_, error) => this.#fail(this.#lost(error)),
          connectError: () => {},
        },
      });
    } catch (cause) {
      const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
      throw new DistNetworkError(`cannot connect to the store server at ${this.#name}: ${code}`, {
        code: "CONNECT_FAILED",
        host,
        port,
        cause,
      });
    }
  }

  async #handshake(): Promise<void> {
    const { host, port, secret } = this.endpoint;
    const server = { name: this.#name, host, port };
    if (secret) {
      await proveToServer(secret, {
        server,
        request: (write, reader) => this.request("connect", [], write, reader),
      });
    }
    const nonce = (dialectMark.ask | Math.floor(Math.random() * 0x1_0000)) >>> 0;
    const answer = await this.request(
      "connect",
      [],
      (output) => {
        output.u8(QueryType.VALIDATE);
        output.u32(validateMagic);
        output.u8(QueryType.PING);
        output.u32(nonce);
      },
      readU32,
    );
    this.#ownDialect = answer === (dialectMark.answer | (nonce & ~dialectMark.mask)) >>> 0;
    if (this.#ownDialect || answer === nonce) return;
    if (answer === secretWanted) throw secretRequired(server);
    throw new DistNetworkError(
      `Ping failed, invalid value returned from server. Expected: ${nonce}, Got: ${answer}. Is it a c10d store that listens on ${this.#name}?`,
      { code: "PROTOCOL_VIOLATION", host, port },
    );
  }

  #send<T>(
    op: string,
    keys: readonly string[],
    write: (output: OutputBuffer) => void,
    reader: ReplyReader<T>,
    limit: CallLimit | undefined,
    resolve: (value: T) => void,
    reject: (error: unknown) => void,
  ): Pending {
    this.#wait?.cancel();
    write(this.#output);
    return this.#expect(op, keys, limit, reject, this.#replies, (input) => {
      const reply = reader(input);
      if (reply === incomplete) return false;
      resolve(reply);
      return true;
    });
  }

  #ready(op: string, limit: CallLimit | undefined, reject: (error: unknown) => void): boolean {
    if (this.#failure !== undefined) reject(withOp(this.#failure, op));
    else if (limit?.signal?.aborted) reject(limit.signal.reason);
    else return true;
    return false;
  }

  #expect(
    op: string,
    keys: readonly string[],
    limit: CallLimit | undefined,
    reject: (error: unknown) => void,
    list: Pending[],
    read: (input: InputBuffer) => boolean,
  ): Pending {
    const signal = limit?.signal;
    const abort = signal ? () => this.#abandon(pending, signal.reason) : undefined;
    const pending: Pending = { op, keys, read, reject, limit, abort, end: this.#output.position, live: true };
    if (abort) signal?.addEventListener("abort", abort, { once: true });
    list.push(pending);
    if (this.#live++ === 0) this.#socket?.ref();
    if (limit && limit.deadline < this.#timerAt) this.#arm(limit.deadline);
    this.#scheduleFlush();
    return pending;
  }

  #settle(pending: Pending): boolean {
    if (!pending.live) return false;
    pending.live = false;
    if (pending.abort) pending.limit?.signal?.removeEventListener("abort", pending.abort);
    if (--this.#live === 0) this.#socket?.unref();
    return true;
  }

  #abandon(pending: Pending, reason: unknown): void {
    if (this.#settle(pending)) pending.reject(reason);
  }

  #scheduleFlush(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => this.#flush());
  }

  readonly #sink = { write: (bytes: Uint8Array): number => this.#socket?.write(bytes) ?? 0 };

  #flush(): void {
    this.#flushing = false;
    if (this.#failure !== undefined) return;
    const empty = this.#output.flush(this.#sink);
    if (this.#writes.length === 0) return;
    let done = 0;
    for (const pending of this.#writes) {
      if (!empty && pending.end > this.#output.taken) break;
      if (this.#settle(pending)) pending.read(this.#input);
      done++;
    }
    this.#writes = done === this.#writes.length ? [] : this.#writes.slice(done);
  }

  #receive(chunk: Uint8Array): void {
    this.#input.push(chunk);
    try {
      while (this.#input.length > 0) {
        const pending = this.#replies[this.#repliesHead];
        if (pending === undefined) throw badReply("bytes that nobody asked for");
        if (!pending.read(this.#input)) return;
        this.#settle(pending);
        this.#shift();
      }
    } catch (error) {
      this.#fail(error instanceof DistNetworkError ? error : this.#lost(error));
      this.#socket?.terminate();
    }
  }

  #shift(): void {
    if (++this.#repliesHead === this.#replies.length) {
      this.#replies.length = 0;
      this.#repliesHead = 0;
    } else if (this.#repliesHead === 1024) {
      this.#replies.splice(0, this.#repliesHead);
      this.#repliesHead = 0;
    }
  }

  #arm(deadline: number): void {
    clearTimeout(this.#timer);
    this.#timerAt = deadline;
    const delay = Math.min(Math.max(deadline - performance.now(), 0), 0x7fff_ffff);
    this.#timer = setTimeout(() => this.#expire(), delay);
    // The socket holds the process as long as somebody waits.
    this.#timer.unref();
  }

  #expire(): void {
    this.#timerAt = Number.POSITIVE_INFINITY;
    const now = performance.now();
    let next = Number.POSITIVE_INFINITY;
    for (const pending of [...this.#replies.slice(this.#repliesHead), ...this.#writes]) {
      if (!pending.live || pending.limit === undefined) continue;
      if (pending.limit.deadline > now) next = Math.min(next, pending.limit.deadline);
      else this.#abandon(pending, this.#unanswered(pending, pending.limit.ms));
    }
    if (next < Number.POSITIVE_INFINITY) this.#arm(next);
  }

  #fail(error: DistError, closed = false): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    clearTimeout(this.#timer);
    const pending = [...this.#replies.slice(this.#repliesHead), ...this.#writes];
    this.#replies.length = 0;
    this.#repliesHead = 0;
    this.#writes = [];
    for (const each of pending) {
      const own = closed ? storeClosed(each.op) : withOp(error, each.op, each.keys);
      if (this.#settle(each)) each.reject(own);
    }
  }

  get #name(): string {
    const { host, address, port } = this.endpoint;
    return host === address ? hostPort(host, port) : `${hostPort(host, port)} (${address})`;
  }

  #lost(cause: unknown): DistNetworkError {
    return new DistNetworkError(
      `the connection to the store server at ${this.#name} was lost. Did the process that hosts it (rank 0 or the launcher) end?`,
      { code: "CONNECTION_LOST", host: this.endpoint.host, port: this.endpoint.port, cause },
    );
  }

  #silent(): DistTimeoutError {
    const { host, port } = this.endpoint;
    return new DistTimeoutError(`the server at ${this.#name} did not answer the handshake of the store protocol`, {
      code: "CONNECT_TIMEOUT",
      host,
      port,
    });
  }

  #unanswered(pending: Pending, limitMs: number): DistTimeoutError {
    const { op, keys } = pending;
    const what = keys.length > 0 ? ` (key ${keys.slice(0, 4).join(", ")}${keys.length > 4 ? ", …" : ""})` : "";
    return new DistTimeoutError(
      `store ${op}${what}: the server at ${this.#name} did not answer within ${Math.round(limitMs)} ms. Is the process that hosts it stopped, or the network down?`,
      { code: "STORE_TIMEOUT", op, keys, timeoutMs: limitMs, host: this.endpoint.host, port: this.endpoint.port },
    );
  }
}

/** The same failure as seen by one call. */
function withOp(error: DistError, op: string, keys: readonly string[] = []): DistError {
  if (!(error instanceof DistNetworkError)) return error;
  const { code, details, cause } = error;
  return new DistNetworkError(`store ${op}: ${error.message}`, {
    ...details,
    code,
    op,
    ...(keys.length > 0 ? { keys } : {}),
    ...(cause === undefined ? {} : { cause }),
  });
}
