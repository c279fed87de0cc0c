import { startTimer } from "../../time/index.ts";
import { type HttpAnswer, textAnswer } from "../http/http-answer.ts";
import type { CallLimits, CallMessage, CallReply } from "./thread-message.ts";

type Call = {
  [K in CallMessage["kind"]]: Omit<Extract<CallMessage, { kind: K }>, "id" | "until" | "patienceMs">;
}[CallMessage["kind"]];

/** How a call ended. */
export type CallOutcome =
  | { readonly answer: HttpAnswer }
  /** The other thread has not begun. */
  | { readonly unreachable: string }
  | { readonly failure: string };

/** Calls of the server's thread into the one that has the handlers, each with a limit. */
export class MainLink {
  readonly #port: MessagePort;
  readonly #limits: CallLimits;
  readonly #pending = new Map<number, (reply: CallReply) => void>();
  /** Given up, but still running. */
  readonly #abandoned = new Set<number>();
  #lastId = 0;

  constructor(port: MessagePort, limits: CallLimits) {
    this.#port = port;
    this.#limits = limits;
    port.onmessage = ({ data }) => this.#receive(data as CallReply);
  }

  /** Never rejects. */
  async call(call: Call): Promise<CallOutcome> {
    const { reachMs, handlerMs, calls } = this.#limits;
    if (this.#pending.size + this.#abandoned.size >= calls) {
      return { answer: textAnswer(503, `${calls} handlers are still running; try again later`) };
    }
    const id = ++this.#lastId;
    const { promise, resolve } = Promise.withResolvers<CallOutcome>();
    let timer = startTimer(reachMs, () => resolve({ unreachable: `for ${reachMs} ms` }));
    this.#pending.set(id, (reply) => {
      timer[Symbol.dispose]();
      if (reply.kind === "answered") resolve({ answer: reply.answer });
      else if (reply.kind === "deferred")
        timer = startTimer(handlerMs, () => resolve({ failure: stillBlocked(handlerMs) }));
      else timer = startTimer(handlerMs, () => resolve(this.#abandon(id)));
    });
    this.#port.postMessage({ ...call, id, until: Date.now() + reachMs, patienceMs: handlerMs });
    try {
      return await promise;
    } finally {
      timer[Symbol.dispose]();
      this.#pending.delete(id);
    }
  }

  #receive(reply: CallReply): void {
    if (reply.kind === "answered") this.#abandoned.delete(reply.id);
    this.#pending.get(reply.id)?.(reply);
  }

  #abandon(id: number): CallOutcome {
    this.#abandoned.add(id);
    return { failure: `it has not answered within ${this.#limits.handlerMs} ms` };
  }
}

function stillBlocked(forMs: number): string {
  return `the rank has blocked in wait() for ${forMs} ms, and this handler runs from the event loop only (dump_traceback shows where it waits)`;
}
