import { receiveMessageOnPort } from "node:worker_threads";
import { messageOf } from "../../errors/index.ts";
import { WaitCounter } from "../../time/index.ts";
import { serveWhileBlocked } from "../../work/index.ts";
import type { CallAnswer, CallMessage, CallReply } from "../server-thread/thread-message.ts";
import type { ControlHandler } from "./control-handler.ts";
import { handlersOf, notFound } from "./handler-registry.ts";
import { HandlerRequest } from "./handler-request.ts";
import { answerOf, HandlerResponse, textOf } from "./handler-response.ts";
import type { ServedRank } from "./served-rank.ts";

/**
 * Runs the handlers that the thread of a server asks for, on this thread: from the event loop, and between the slices of
 * a blocking `wait()` those that allow it.
 */
export class RequestService implements Disposable {
  readonly #served: ServedRank;
  readonly #port: MessagePort;
  readonly #blocked: Disposable;
  readonly #counting = WaitCounter.read();

  constructor(served: ServedRank, port: MessagePort) {
    this.#served = served;
    this.#port = port;
    port.onmessage = ({ data }) => this.#serve(data as CallMessage, false);
    // Bun has unref() on its ports; the types of the web lack it.
    (port as MessagePort & { unref(): void }).unref();
    this.#blocked = serveWhileBlocked(() => this.#serveBlocked());
  }

  [Symbol.dispose](): void {
    this.#blocked[Symbol.dispose]();
    this.#counting[Symbol.dispose]();
    this.#port.close();
  }

  #serveBlocked(): void {
    for (;;) {
      const received = receiveMessageOnPort(this.#port as never) as { readonly message: CallMessage } | undefined;
      if (received === undefined || received === null) return;
      this.#serve(received.message, true);
    }
  }

  #serve(message: CallMessage, isBlocked: boolean): void {
    // The server has given it up.
    if (Date.now() > message.until) return;
    const { id } = message;
    if (message.kind === "names") {
      const names = textOf(200, JSON.stringify([...this.#handlers().keys()]));
      this.#reply({ kind: "answered", id, answer: { ...names, contentType: "application/json" } });
      return;
    }
    const handler = this.#handlers().get(message.name);
    if (isBlocked && handler !== undefined && handler.duringWait !== true) {
      const later = { ...message, until: Date.now() + message.patienceMs };
      setImmediate(() => this.#serve(later, false)).unref();
      this.#reply({ kind: "deferred", id });
      return;
    }
    this.#reply({ kind: "begun", id });
    if (handler === undefined) {
      const { name } = message;
      this.#reply({ kind: "answered", id, answer: textOf(404, `Handler ${name} not found: ${notFound(name)}`) });
      return;
    }
    const response = new HandlerResponse();
    const end = (answer: CallAnswer) => this.#reply({ kind: "answered", id, answer });
    try {
      const running = handler.handle(new HandlerRequest(message.params, message.body), response);
      if (running === undefined) end(answerOf(response));
      else {
        Promise.resolve(running).then(
          () => end(answerOf(response)),
          (error: unknown) => end(failed(message.name, error)),
        );
      }
    } catch (error) {
      end(failed(message.name, error));
    }
  }

  #handlers(): Map<string, ControlHandler> {
    return handlersOf(this.#served.container, this.#served.globalRank);
  }

  #reply(reply: CallReply): void {
    this.#port.postMessage(reply);
  }
}

function failed(name: string, error: unknown): CallAnswer {
  if (!(error instanceof Error)) return textOf(500, `Handler ${name} failed with unknown exception`);
  const at = (error.stack ?? "")
    .split("\n")
    .filter((line) => /^\s*at /.test(line))
    .map((line) => `  ${line.trim().slice("at ".length)}\n`);
  return textOf(500, `Handler ${name} failed: ${error.name}: ${messageOf(error)}\n\nAt:\n${at.join("")}`);
}
