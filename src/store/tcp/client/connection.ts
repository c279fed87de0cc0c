import { type DistError, DistNetworkError } from "../../../errors/index.ts";
import { storeClosed } from "../../store.ts";
import { hostPort } from "../host-address.ts";
import { InputBuffer } from "../wire/input-buffer.ts";
import { OutputBuffer } from "../wire/output-buffer.ts";
import { QueryType } from "../wire/protocol.ts";
import { badReply, readU32 } from "../wire/reply.ts";
import { type AnyCall, Call, type CallLimit, type Request } from "./call.ts";
import { CallTimer } from "./call-timer.ts";
import { connectionLost, outcomeUnknown, unanswered, withOp } from "./connection-errors.ts";
import type { Endpoint } from "./endpoint.ts";
import { PendingWait } from "./pending-wait.ts";

/** What was in flight when a connection broke. */
export interface Loss {
  readonly error: DistError;
  /** Calls without a reply, and whether they may have reached the server. */
  readonly calls: readonly { readonly call: AnyCall; readonly sent: boolean }[];
  /** The last write that was reported as sent, unless a later reply shows that it, and all before it, arrived. */
  readonly unconfirmed: AnyCall | undefined;
}

type Socket = Bun.Socket<undefined>;

/** Requests are sent at once when they have this many bytes. */
const promptBytes = 32 * 1024;
/** How long after a write a server of this package is asked whether it has arrived. */
const confirmAfterMs = 50;
const confirmLimitMs = 5_000;

/**
 * One connection to a TCPStore server. Requests are pipelined: they go out together at the end of the current
 * microtask, and their replies come in the same order. It keeps the process alive only while a call waits for a reply.
 */
export class Connection {
  readonly endpoint: Endpoint;
  /** Whether the server is of this package; see dialectMark. */
  ownDialect = false;
  /** Distinguishes the server from one that was started later at the same address; PyTorch's have none. */
  serverIdentity: string | undefined;
  /** Called when it breaks, instead of rejecting the calls in flight. */
  onLoss: ((loss: Loss) => void) | undefined;
  readonly #output = new OutputBuffer();
  readonly #input = new InputBuffer();
  readonly #replies: AnyCall[] = [];
  #repliesHead = 0;
  /** Requests without a reply whose bytes were not sent yet. */
  #writes: AnyCall[] = [];
  #lastWrite: AnyCall | undefined;
  /** The server has read the stream at least up to here. */
  #confirmed = 0;
  #confirmTimer: ReturnType<typeof setTimeout> | undefined;
  #socket: Socket | undefined;
  #failure: DistError | undefined;
  #live = 0;
  #flushing = false;
  /** Whether the socket has not taken everything; it calls {@link flush} when it takes more. */
  #congested = false;
  #wait: PendingWait | undefined;
  readonly #timer = new CallTimer(
    () => this.#unsettled(),
    (call) => this.#abandon(call, unanswered(this.endpoint, call)),
  );

  constructor(endpoint: Endpoint) {
    this.endpoint = endpoint;
  }

  /** Sets the open socket. */
  attach(socket: Socket): void {
    this.#socket = socket;
  }

  /** Whether the socket was opened. */
  get attached(): boolean {
    return this.#socket !== undefined;
  }

  /** Whether no reply is outstanding. */
  get idle(): boolean {
    return this.#repliesHead === this.#replies.length;
  }

  /** Why it cannot be used any more. */
  get failure(): DistError | undefined {
    return this.#failure;
  }

  /** Local address of the connection. */
  get localAddress(): string | undefined {
    return this.#socket?.localAddress;
  }

  /** Address and port of this end; undefined once the connection has ended. */
  get localEndpoint(): string | undefined {
    const { localAddress, localPort } = this.#socket ?? {};
    return localAddress === undefined || localPort === undefined ? undefined : hostPort(localAddress, localPort);
  }

  /** Sends a request; resolves to its reply, or, if it has none, when its bytes were sent. */
  request<T>(request: Request<T>, limit?: CallLimit): Promise<T> {
    return new Promise<T>((resolve, reject) => this.send(new Call(request, limit, undefined, resolve, reject)));
  }

  /** Sends a call. A pending WAIT on this connection is cancelled first. */
  send(call: AnyCall): void {
    const { limit } = call;
    if (this.#failure !== undefined || limit?.signal?.aborted) {
      call.reject(this.#failure ? withOp(this.#failure, call.request.op) : limit?.signal?.reason);
      return;
    }
    this.#wait?.cancel();
    call.write(this.#output);
    (call.hasReply ? this.#replies : this.#writes).push(call);
    if (this.#live++ === 0) this.#socket?.ref();
    if (limit) this.#limit(call, limit);
    // So that the server works while more is written.
    if (this.#output.length >= promptBytes && !this.#congested) this.flush();
    else this.#scheduleFlush();
  }

  /** Sends a WAIT or BARRIER. Later requests cancel it, so that it does not delay them. */
  wait(request: Omit<Request<never>, "reply">): PendingWait {
    // The reply, which would show that the writes before it have arrived, may take long.
    if (this.ownDialect && (this.#writes.length > 0 || this.#unconfirmed)) this.#confirm();
    const wait = new PendingWait(request, {
      send: (call) => this.send(call),
      cancel: () => {
        this.#output.u8(QueryType.CANCEL_WAIT);
        this.#scheduleFlush();
      },
      abandon: (call, reason) => this.#abandon(call, reason),
      ended: () => {
        if (this.#wait === wait) this.#wait = undefined;
      },
    });
    wait.start();
    this.#wait = wait;
    return wait;
  }

  /** Ends the connection; what is pending rejects. */
  close(): void {
    if (this.#failure === undefined) {
      this.#output.flush(this.#sink);
      this.#fail(storeClosed("a call"), true);
    }
    this.#socket?.end();
  }

  /** The socket was closed. */
  lost(cause: unknown): void {
    this.#fail(connectionLost(this.endpoint, cause));
  }

  /** Reads received bytes. */
  receive(chunk: Uint8Array): void {
    const now = performance.now();
    this.#input.push(chunk);
    try {
      while (this.#input.length > 0) {
        const call = this.#replies[this.#repliesHead];
        if (call === undefined) throw badReply("bytes without a request");
        if (!call.read(this.#input, now)) return;
        this.#confirmed = call.start;
        if (this.#lastWrite !== undefined && this.#lastWrite.end <= call.start) this.#lastWrite = undefined;
        this.#settle(call);
        this.#shift();
      }
    } catch (error) {
      this.#fail(error instanceof DistNetworkError ? error : connectionLost(this.endpoint, error));
      this.#socket?.terminate();
    }
  }

  /** Sends what the socket takes. */
  readonly flush = (): void => {
    this.#flushing = false;
    if (this.#failure !== undefined) return;
    const empty = this.#output.flush(this.#sink);
    this.#congested = !empty;
    if (this.#writes.length === 0) return;
    const now = performance.now();
    let done = 0;
    for (const call of this.#writes) {
      if (!empty && call.end > this.#output.taken) break;
      this.#lastWrite = call;
      if (this.#settle(call)) call.leave(now);
      done++;
    }
    this.#writes = done === this.#writes.length ? [] : this.#writes.slice(done);
    if (this.ownDialect) this.#confirmTimer ??= setTimeout(this.#confirmIdle, confirmAfterMs).unref();
  };

  get #unconfirmed(): AnyCall | undefined {
    return this.#lastWrite !== undefined && this.#lastWrite.end > this.#confirmed ? this.#lastWrite : undefined;
  }

  readonly #confirmIdle = (): void => {
    this.#confirmTimer = undefined;
    if (this.#failure === undefined && this.idle && this.#unconfirmed) this.#confirm();
  };

  /** Sends a PING, whose reply comes after all earlier writes were read. */
  #confirm(): void {
    const write = (output: OutputBuffer) => {
      output.u8(QueryType.PING);
      output.u32(0);
    };
    const began = performance.now();
    const limit = { began, deadline: began + confirmLimitMs, ms: confirmLimitMs };
    const request = { op: "ping", keys: [], repeatable: true, write, reply: () => readU32, onLost: () => {} };
    const ignore = () => {};
    this.send(new Call(request, limit, undefined, ignore, ignore));
  }

  #limit(call: AnyCall, { signal, deadline }: CallLimit): void {
    if (signal) {
      call.abort = () => this.#abandon(call, signal.reason);
      signal.addEventListener("abort", call.abort, { once: true });
    }
    this.#timer.watch(deadline);
  }

  #unsettled(): AnyCall[] {
    return [...this.#replies.slice(this.#repliesHead), ...this.#writes];
  }

  #settle(call: AnyCall): boolean {
    if (!call.live) return false;
    call.live = false;
    if (call.abort) call.limit?.signal?.removeEventListener("abort", call.abort);
    if (--this.#live === 0) this.#socket?.unref();
    return true;
  }

  #abandon(call: AnyCall, reason: unknown): void {
    if (this.#settle(call)) call.reject(reason);
  }

  #scheduleFlush(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(this.flush);
  }

  readonly #sink = {
    write: (bytes: Uint8Array, offset: number, length: number): number =>
      this.#socket?.write(bytes, offset, length) ?? 0,
  };

  #shift(): void {
    if (++this.#repliesHead === this.#replies.length) {
      this.#replies.length = 0;
      this.#repliesHead = 0;
    } else if (this.#repliesHead === 1024) {
      this.#replies.splice(0, this.#repliesHead);
      this.#repliesHead = 0;
    }
  }

  #fail(error: DistError, closed = false): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#timer.stop();
    clearTimeout(this.#confirmTimer);
    const unconfirmed = this.#unconfirmed;
    const calls = this.#unsettled()
      .filter((call) => this.#settle(call))
      .map((call) => ({ call, sent: call.start < this.#output.taken }));
    this.#replies.length = 0;
    this.#repliesHead = 0;
    this.#writes = [];
    if (closed) for (const { call } of calls) call.reject(storeClosed(call.request.op));
    else if (this.onLoss) this.onLoss({ error, calls, unconfirmed });
    else for (const { call, sent } of calls) interrupt(call, sent, error);
  }
}

/** Ends a call that will not be sent again. */
export function interrupt(call: AnyCall, sent: boolean, error: DistError): void {
  const { op, keys, repeatable, onLost } = call.request;
  if (onLost) onLost();
  else call.reject(repeatable || !sent ? withOp(error, op, keys) : outcomeUnknown(error, call));
}
