import { waitReply } from "../wire/protocol.ts";
import { badReply, incomplete, type ReplyReader, readU8 } from "../wire/reply.ts";
import { type AnyCall, Call, type Request } from "./call.ts";

/** How a WAIT or BARRIER ended; `lost` if its connection broke. */
export type WaitOutcome = "ready" | "cancelled" | "lost";

/** What a wait needs of its connection. */
interface WaitChannel {
  send(call: AnyCall): void;
  cancel(): void;
  abandon(call: AnyCall, reason: unknown): void;
  ended(): void;
}

/** A pending WAIT or BARRIER. */
export class PendingWait {
  /** How it ended; rejects with the reason of {@link abandon}, and when the connection of a BARRIER breaks. */
  readonly outcome: Promise<WaitOutcome>;
  readonly #channel: WaitChannel;
  readonly #call: AnyCall;
  #cancelled = false;
  #arrived = false;
  #ended = false;

  constructor(request: Omit<Request<never>, "reply">, channel: WaitChannel) {
    this.#channel = channel;
    const { promise, resolve, reject } = Promise.withResolvers<WaitOutcome>();
    this.outcome = promise;
    const asked: Request<WaitOutcome> = {
      ...request,
      reply: () => this.#read,
      ...(request.repeatable && { onLost: () => resolve("lost") }),
    };
    this.#call = new Call(asked, undefined, undefined, resolve, reject);
  }

  start(): void {
    this.#channel.send(this.#call);
  }

  /** Asks the server to end it. */
  cancel(): void {
    if (this.#cancelled || this.#ended) return;
    this.#cancelled = true;
    this.#channel.cancel();
  }

  /** Asks the server to end it and makes `outcome` reject now. */
  abandon(reason: unknown): void {
    this.cancel();
    this.#channel.abandon(this.#call, reason);
  }

  readonly #read: ReplyReader<WaitOutcome> = (input) => {
    for (;;) {
      const byte = readU8(input);
      if (byte === incomplete) return incomplete;
      if (byte === waitReply.STOP_WAITING && !this.#arrived) {
        this.#arrived = true;
        // The server also answers a cancellation that crossed this reply.
        if (this.#cancelled) continue;
      } else if (byte !== waitReply.WAIT_CANCELED || !this.#cancelled) {
        throw badReply(`byte ${byte} in answer to a WAIT`);
      }
      this.#ended = true;
      this.#channel.ended();
      return this.#arrived ? "ready" : "cancelled";
    }
  };
}
