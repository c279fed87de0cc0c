import type { InputBuffer } from "../wire/input-buffer.ts";
import { OutputBuffer } from "../wire/output-buffer.ts";
import { incomplete, type ReplyReader } from "../wire/reply.ts";
import type { Timing } from "./call-counters.ts";

/** The deadline of a call. */
export interface CallLimit {
  /** When it began, on the clock of `performance.now()`. */
  readonly began: number;
  /** On the same clock. */
  readonly deadline: number;
  /** The time-out that the caller gave, for messages. */
  readonly ms: number;
  readonly signal?: AbortSignal | undefined;
}

/** What is sent to the server, and how its reply is read. */
export interface Request<T> {
  readonly op: string;
  readonly keys: readonly string[];
  /** Whether it changes nothing, so that it may be sent again when it is unknown whether it arrived. */
  readonly repeatable: boolean;
  write(output: OutputBuffer): void;
  /** Creates the reader of the reply. Without it there is no reply: the request is done when its bytes were sent. */
  readonly reply?: () => ReplyReader<T | PromiseLike<T>>;
  /** Called when the connection is lost, instead of rejecting the call. */
  readonly onLost?: () => void;
}

/** A {@link Call}, whatever it results in. */
export interface AnyCall {
  readonly request: Pick<Request<unknown>, "op" | "keys" | "repeatable" | "onLost">;
  readonly hasReply: boolean;
  readonly limit: CallLimit | undefined;
  /** Where its bytes begin and end in the stream of its connection. */
  start: number;
  end: number;
  /** How often it was sent. */
  sent: number;
  /** Whether the caller still waits; otherwise the reply is read and dropped. */
  live: boolean;
  /** The listener on `limit.signal` while the call is in flight. */
  abort: (() => void) | undefined;
  /** Copies the bytes to send, since the caller may change its values later. */
  freeze(): void;
  /** Writes its bytes to the stream, possibly again. */
  write(output: OutputBuffer): void;
  /** Consumes the reply; false while it is incomplete. */
  read(input: InputBuffer, now: number): boolean;
  /** Ends a call without a reply, whose bytes were sent. */
  leave(now: number): void;
  reject(error: unknown): void;
}

/** One call: it outlives the connection that it was first sent on. */
export class Call<T> implements AnyCall {
  readonly request: Request<T>;
  readonly limit: CallLimit | undefined;
  readonly hasReply: boolean;
  start = 0;
  end = 0;
  sent = 0;
  live = false;
  abort: (() => void) | undefined;
  readonly #timing: Timing | undefined;
  readonly #resolve: (value: T | PromiseLike<T>) => void;
  readonly #reject: (error: unknown) => void;
  #reader: ReplyReader<T | PromiseLike<T>> | undefined;
  #frozen: Uint8Array | undefined;

  constructor(
    request: Request<T>,
    limit: CallLimit | undefined,
    timing: Timing | undefined,
    resolve: (value: T | PromiseLike<T>) => void,
    reject: (error: unknown) => void,
  ) {
    this.request = request;
    this.limit = limit;
    this.hasReply = request.reply !== undefined;
    this.#timing = timing;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  freeze(): void {
    const output = new OutputBuffer();
    this.request.write(output);
    this.#frozen = output.drain();
  }

  write(output: OutputBuffer): void {
    this.#reader = this.request.reply?.();
    this.live = true;
    this.sent++;
    this.start = output.position;
    if (this.#frozen) output.bytes(this.#frozen);
    else this.request.write(output);
    this.end = output.position;
  }

  read(input: InputBuffer, now: number): boolean {
    const reply = this.#reader === undefined ? incomplete : this.#reader(input);
    if (reply === incomplete) return false;
    if (!this.live) {
      // The caller no longer waits, so a rejection is ignored.
      if (reply instanceof Promise) reply.catch(() => {});
      return true;
    }
    this.#resolve(reply);
    if (reply instanceof Promise) this.#countWith(reply);
    else this.#timing?.add(now - (this.limit?.began ?? now));
    return true;
  }

  leave(now: number): void {
    // Only a request whose result is void has no reply.
    this.#resolve(undefined as T);
    this.#timing?.add(now - (this.limit?.began ?? now));
  }

  reject(error: unknown): void {
    this.#reject(error);
    this.#count();
  }

  #countWith(result: Promise<unknown>): void {
    const count = () => this.#count();
    result.then(count, count);
  }

  #count(): void {
    const now = performance.now();
    this.#timing?.add(now - (this.limit?.began ?? now));
  }
}
