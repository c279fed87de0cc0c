import { startTimer, type Timer } from "../../time/index.ts";
import { answerBytes, type HttpAnswer, textAnswer } from "./http-answer.ts";
import { parseHead, type RequestHead } from "./request-head.ts";

/** What a connection may use. */
export interface HttpLimits {
  readonly headBytes: number;
  readonly bodyBytes: number;
  /** From the connection to the last byte of its request. */
  readonly requestMs: number;
  /** From the answer to the end of the connection. */
  readonly answerMs: number;
}

/** Answers requests. Neither method throws or rejects. */
export interface HttpService {
  /** Called before the body is read: an answer refuses the request. */
  refusal(head: RequestHead): HttpAnswer | undefined;
  answer(head: RequestHead, body: Uint8Array): Promise<HttpAnswer>;
}

type Socket = Pick<Bun.Socket<unknown>, "write" | "end" | "terminate">;

/**
 * One connection, which serves one request. What follows it is ignored, so that a request cannot be taken for another
 * one's body, and no client holds a connection for longer than a request takes.
 */
export class HttpConnection {
  readonly #socket: Socket;
  readonly #service: HttpService;
  readonly #limits: HttpLimits;
  #received: Uint8Array = new Uint8Array(0);
  #head: RequestHead | undefined;
  #isAnswered = false;
  /** The part of the answer that the system has not taken yet. */
  #unsent: Uint8Array | undefined;
  #timer: Timer;

  constructor(socket: Socket, service: HttpService, limits: HttpLimits) {
    this.#socket = socket;
    this.#service = service;
    this.#limits = limits;
    this.#timer = startTimer(limits.requestMs, () =>
      this.#refuse(408, `the request has not arrived within ${limits.requestMs} ms`),
    );
  }

  /** Whether it has sent a request that was let in. */
  get isAdmitted(): boolean {
    return this.#head !== undefined;
  }

  receive(chunk: Uint8Array): void {
    if (this.#isAnswered) return;
    this.#received = this.#received.length === 0 ? chunk.slice() : Buffer.concat([this.#received, chunk]);
    if (this.#head === undefined && !this.#readHead()) return;
    const { contentLength = 0 } = this.#head ?? {};
    if (this.#received.length < contentLength || this.#head === undefined) return;
    this.#isAnswered = true;
    this.#timer[Symbol.dispose]();
    const head = this.#head;
    const body = new Uint8Array(this.#received.subarray(0, contentLength));
    this.#service.answer(head, body).then((answer) => this.#send(answer, head.method === "HEAD"));
  }

  /** Refuses what it has not answered yet, e.g. since there are too many connections. */
  refuse(status: number, text: string): void {
    if (!this.#isAnswered) this.#refuse(status, text);
  }

  /** Called when the socket can take more. */
  drain(): void {
    if (this.#unsent !== undefined) this.#flush(this.#unsent);
  }

  /** Called when the socket is closed. */
  closed(): void {
    this.#isAnswered = true;
    this.#unsent = undefined;
    this.#timer[Symbol.dispose]();
  }

  /** @returns whether the head is complete and the request let in. */
  #readHead(): boolean {
    const { headBytes, bodyBytes } = this.#limits;
    const end = Buffer.from(this.#received.buffer, this.#received.byteOffset, this.#received.length).indexOf(blankLine);
    if (end < 0 ? this.#received.length > headBytes : end > headBytes) {
      this.#refuse(431, `request line and headers are limited to ${headBytes} bytes`);
      return false;
    }
    if (end < 0) return false;
    const head = parseHead(Buffer.from(this.#received.subarray(0, end)).toString("latin1"));
    if ("fault" in head) {
      this.#refuse(head.status, head.fault);
      return false;
    }
    const refusal = this.#service.refusal(head);
    if (refusal !== undefined) {
      this.#end(refusal, head.method === "HEAD");
      return false;
    }
    if (head.contentLength > bodyBytes) {
      this.#refuse(413, `the body of a request is limited to ${bodyBytes} bytes`);
      return false;
    }
    this.#head = head;
    this.#received = this.#received.subarray(end + blankLine.length);
    return true;
  }

  #refuse(status: number, text: string): void {
    this.#end(textAnswer(status, `${text}\n`), false);
  }

  #end(answer: HttpAnswer, isHead: boolean): void {
    this.#isAnswered = true;
    this.#received = new Uint8Array(0);
    this.#send(answer, isHead);
  }

  #send(answer: HttpAnswer, isHead: boolean): void {
    this.#timer[Symbol.dispose]();
    this.#timer = startTimer(this.#limits.answerMs, () => this.#socket.terminate());
    this.#flush(answerBytes(answer, isHead));
  }

  #flush(bytes: Uint8Array): void {
    const sent = Math.max(0, this.#socket.write(bytes));
    this.#unsent = sent < bytes.length ? bytes.subarray(sent) : undefined;
    // Only the sending side: closing it all while the client is still sending would discard the answer.
    if (this.#unsent === undefined) this.#socket.end();
  }
}

const blankLine = "\r\n\r\n";
