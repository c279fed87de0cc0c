import { createHash, timingSafeEqual } from "node:crypto";
import { pause } from "../../time/index.ts";
import { emptyAnswer, type HttpAnswer, textAnswer } from "../http/http-answer.ts";
import type { HttpService } from "../http/http-connection.ts";
import type { RequestHead } from "../http/request-head.ts";
import type { MainLink } from "./main-link.ts";
import { unreachableReport } from "./unreachable-report.ts";

/** The pages of a worker server: c10d's paths, texts and content types. */
export class Routes implements HttpService {
  readonly #main: MainLink;
  readonly #tokenHash: Buffer | undefined;

  /** @param token What requests have to know, if anything. */
  constructor(main: MainLink, token: string | undefined) {
    this.#main = main;
    this.#tokenHash = token === undefined ? undefined : hashOf(token);
  }

  refusal(head: RequestHead): HttpAnswer | undefined {
    if (this.#place(head) !== undefined) return undefined;
    const text =
      "This worker server wants its token: a header `Authorization: Bearer <token>`, or a path /<token>/… as in WorkerServer.url\n";
    return textAnswer(401, text);
  }

  async answer(head: RequestHead, body: Uint8Array): Promise<HttpAnswer> {
    const { prefix, path } = this.#place(head) ?? { prefix: "", path: "" };
    const isRead = head.method === "GET" || head.method === "HEAD";
    if (isRead && path === "/") return textAnswer(200, indexPage(prefix), "text/html");
    if (isRead && path === "/handler/") return this.#names();
    const [, encoded] = /^\/handler\/([^/]*)$/.exec(path) ?? [];
    if (head.method !== "POST" || encoded === undefined) return emptyAnswer(404);
    return this.#call(decode(encoded), [...new URLSearchParams(head.query)], body);
  }

  /** The path below the token; `undefined` for a request that does not know it. */
  #place({ path, authorization }: RequestHead): { prefix: string; path: string } | undefined {
    if (this.#tokenHash === undefined) return { prefix: "", path };
    const [, bearer] = /^Bearer +(\S+)$/i.exec(authorization ?? "") ?? [];
    if (bearer !== undefined && this.#isToken(bearer)) return { prefix: "", path };
    const [, first = "", rest = ""] = /^\/([^/]*)(.*)$/.exec(path) ?? [];
    return this.#isToken(first) ? { prefix: `/${first}`, path: rest || "/" } : undefined;
  }

  /** Compares hashes, in constant time. */
  #isToken(text: string): boolean {
    return this.#tokenHash !== undefined && timingSafeEqual(this.#tokenHash, hashOf(text));
  }

  async #names(): Promise<HttpAnswer> {
    const outcome = await this.#main.call({ kind: "names" });
    if ("answer" in outcome) return outcome.answer;
    return textAnswer(500, `The names of the handlers are not known: ${reason(outcome)}`);
  }

  async #call(name: string, params: [string, string][], body: Uint8Array): Promise<HttpAnswer> {
    // Says that the process is alive, whatever its main thread does.
    if (name === "ping") return textAnswer(200, "pong");
    const duration = name === "torch_profile" ? durationOf(params) : 0;
    if (duration === undefined) return textAnswer(400, "duration must be a number of seconds of at least 0");
    const sent = name === "torch_profile" ? await profiled(duration) : params;
    const outcome = await this.#main.call({ kind: "call", name, params: sent, body });
    if ("answer" in outcome) return outcome.answer;
    if (name === "dump_traceback" && "unreachable" in outcome)
      return textAnswer(200, unreachableReport(outcome.unreachable));
    return textAnswer(500, `Handler ${name} failed: ${reason(outcome)}`);
  }
}

/** Longest time that a profile takes, below the 60 s that the front end waits. */
const PROFILE_LIMIT_S = 30;

/** How long a profile is to take, in seconds: a second if the request does not say; undefined for what is no duration. */
function durationOf(params: readonly [string, string][]): number | undefined {
  const text = new Map(params).get("duration") ?? "1";
  const seconds = text.trim() === "" ? Number.NaN : Number(text);
  return seconds >= 0 ? Math.min(seconds, PROFILE_LIMIT_S) : undefined;
}

/** Lets the time that is to be profiled pass here, since the other thread may be blocked; adds when it began. */
async function profiled(seconds: number): Promise<[string, string][]> {
  const since = Date.now();
  await pause(seconds * 1_000);
  return [["since", String(since)]];
}

function reason(outcome: { readonly unreachable: string } | { readonly failure: string }): string {
  if ("failure" in outcome) return outcome.failure;
  return (
    `the thread that has the handlers has not taken the request ${outcome.unreachable}: it runs JavaScript that does ` +
    "not return to the event loop, or a blocking call other than wait(). dump_traceback says what is known"
  );
}

function indexPage(prefix: string): string {
  return `<h1>torch.distributed.WorkerServer</h1>\n<a href="${prefix}/handler/">Handler names</a>\n`;
}

function hashOf(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

/** Percent-decodes bytes that need not be UTF-8. */
function decode(text: string): string {
  const bytes = text.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return new TextDecoder().decode(Buffer.from(bytes, "latin1"));
}
