import { afterEach, describe, expect, test } from "bun:test";
import { RawHttp, statusOf } from "../fixtures/raw-http.ts";
import { emptyAnswer, textAnswer } from "./http-answer.ts";
import type { HttpService } from "./http-connection.ts";
import { HttpServer, type HttpServerLimits } from "./http-server.ts";

const usual: HttpServerLimits = {
  connections: 64,
  headBytes: 16_384,
  bodyBytes: 1_000,
  requestMs: 10_000,
  answerMs: 10_000,
};

let server: HttpServer | undefined;
afterEach(() => server?.stop());

/** Serves the method, path and body of a request, and counts them. */
function serve(limits: Partial<HttpServerLimits> = {}, service: Partial<HttpService> = {}) {
  const served: string[] = [];
  server = new HttpServer(
    { hostname: "127.0.0.1", port: 0 },
    {
      refusal: ({ path }) => (path.startsWith("/secret") ? textAnswer(401, "no\n") : undefined),
      answer: async ({ method, path, query }, body) => {
        served.push(`${method} ${path}?${query} ${Buffer.from(body).toString("latin1")}`);
        return textAnswer(200, "ok");
      },
      ...service,
    },
    { ...usual, ...limits },
  );
  return { port: server.port, served };
}

const isAlive = (port: number) => statusOf(port, "GET /alive HTTP/1.1\r\n\r\n");
const ok = "HTTP/1.1 200 OK";
const bad = "HTTP/1.1 400 Bad Request";

describe("requests that are no requests", () => {
  test.each<[string, string, string]>([
    ["another protocol", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", bad],
    ["an empty line", "\r\n\r\n", bad],
    ["no version", "GET /\r\n\r\n", bad],
    ["HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bad],
    ["a method in lower case", "get / HTTP/1.1\r\n\r\n", bad],
    ["a path without a slash", "GET handler HTTP/1.1\r\n\r\n", bad],
    ["a whole URL", "GET http://elsewhere/ HTTP/1.1\r\n\r\n", bad],
    ["a blank in the path", "GET /a b HTTP/1.1\r\n\r\n", bad],
    ["a NUL in the path", "GET /a\0b HTTP/1.1\r\n\r\n", bad],
    ["a header without a colon", "GET / HTTP/1.1\r\nHost\r\n\r\n", bad],
    ["a blank before the colon", "GET / HTTP/1.1\r\nContent-Length : 5\r\n\r\n", bad],
    ["a folded header", "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", bad],
    ["a line feed in a header", "GET / HTTP/1.1\r\nA: b\nContent-Length: 5\r\n\r\n", bad],
    ["two lengths", "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", bad],
    ["two equal lengths", "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", bad],
    ["a negative length", "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", bad],
    ["a length that is a list", "POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\na", bad],
    ["a length in hexadecimal", "POST / HTTP/1.1\r\nContent-Length: 0x1\r\n\r\na", bad],
    ["a length of 2^64", "POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\na", bad],
    ["two authorizations", "GET / HTTP/1.1\r\nAuthorization: a\r\nauthorization: b\r\n\r\n", bad],
    ["chunks", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 411 Length Required"],
    [
      "chunks and a length",
      "POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      "HTTP/1.1 411 Length Required",
    ],
    ["too large a body", "POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", "HTTP/1.1 413 Content Too Large"],
    [
      "too large a head",
      `GET / HTTP/1.1\r\nA: ${"x".repeat(16_384)}\r\n\r\n`,
      "HTTP/1.1 431 Request Header Fields Too Large",
    ],
    ["a head without an end", `GET /${"x".repeat(20_000)}`, "HTTP/1.1 431 Request Header Fields Too Large"],
  ])("%s", async (_, request, expected) => {
    const { port, served } = serve();
    expect(await statusOf(port, request)).toBe(expected);
    expect(served).toEqual([]);
    expect(await isAlive(port)).toBe(ok);
  });

  test("random bytes never reach the service, and harm nothing", async () => {
    const { port, served } = serve();
    const all = Array.from({ length: 60 }, async (_, i) => {
      const bytes = crypto.getRandomValues(new Uint8Array(1 + ((i * 97) % 3_000)));
      const text = Buffer.from(bytes).toString("latin1");
      return statusOf(port, `${text}\r\n\r\n`);
    });
    for (const line of await Promise.all(all)) expect(line).toBe(bad);
    expect(served).toEqual([]);
    expect(await isAlive(port)).toBe(ok);
  });
});

describe("a request", () => {
  test("may come byte by byte", async () => {
    const { port, served } = serve();
    const raw = await RawHttp.open(port);
    for (const byte of "POST /a?b=c HTTP/1.1\r\ncontent-length: 3\r\n\r\nxyz") {
      raw.send(byte);
      await Bun.sleep(0);
    }
    expect(await raw.all()).toStartWith(`${ok}\r\n`);
    expect(served).toEqual(["POST /a?b=c xyz"]);
  });

  test("bytes that are not UTF-8 pass as they are", async () => {
    const { port, served } = serve();
    expect(await statusOf(port, "POST /\xff\xfe HTTP/1.1\r\nX: \xe9\r\nContent-Length: 2\r\n\r\n\x80\xff")).toBe(ok);
    expect(served).toEqual(["POST /\xff\xfe? \x80\xff"]);
  });

  test("what follows it is not another one: each has a connection of its own", async () => {
    const { port, served } = serve();
    const one = "POST /1 HTTP/1.1\r\nContent-Length: 1\r\n\r\na";
    const raw = (await RawHttp.open(port)).send(`${one}${one.replace("/1", "/2")}${one.replace("/1", "/3")}`);
    const answer = await raw.all();
    expect(answer.split("HTTP/1.1 200")).toHaveLength(2);
    expect(answer).toContain("Connection: close\r\n");
    expect(served).toEqual(["POST /1? a"]);
  });

  test("that is refused is refused before its body", async () => {
    const { port, served } = serve();
    expect(await statusOf(port, "POST /secret HTTP/1.1\r\nContent-Length: 900\r\n\r\n")).toBe(
      "HTTP/1.1 401 Unauthorized",
    );
    expect(served).toEqual([]);
  });

  test("HEAD has the headers of the answer alone", async () => {
    const { port } = serve();
    const raw = (await RawHttp.open(port)).send("HEAD / HTTP/1.1\r\n\r\n");
    const answer = await raw.all();
    expect(answer).toContain("Content-Length: 2\r\n");
    expect(answer).toEndWith("\r\n\r\n");
  });

  test("an answer without a type has no Content-Type", async () => {
    const { port } = serve({}, { answer: async () => emptyAnswer(404) });
    const raw = (await RawHttp.open(port)).send("GET / HTTP/1.1\r\n\r\n");
    expect(await raw.all()).not.toContain("\r\nContent-Type:");
  });
});

describe("connections that are silent or slow", () => {
  test("end when their time is up, whatever they send meanwhile", async () => {
    const { port, served } = serve({ requestMs: 400, answerMs: 200 });
    const began = performance.now();
    const silent = await RawHttp.open(port);
    const head = (await RawHttp.open(port)).send("GET / HTTP/1.1\r\n");
    const body = (await RawHttp.open(port)).send("POST / HTTP/1.1\r\nContent-Length: 900\r\n\r\n");
    const drip = setInterval(() => {
      head.send("A: b\r\n");
      body.send("x");
    }, 50);
    const answers = await Promise.all([silent.all(), head.all(), body.all()]);
    clearInterval(drip);
    for (const answer of answers) expect(answer).toStartWith("HTTP/1.1 408 Request Timeout\r\n");
    for (const each of [silent, head, body]) expect(each.endedAt - began).toBeWithin(350, 3_000);
    expect(served).toEqual([]);
    expect(await isAlive(port)).toBe(ok);
  });

  test("a client that does not take its answer is dropped", async () => {
    let release = () => {};
    const taken = new Promise<void>((resolve) => {
      release = resolve;
    });
    const large = { status: 200, body: new Uint8Array(64 << 20) };
    const { port } = serve(
      { answerMs: 300 },
      { answer: async ({ path }) => (path === "/large" ? large : textAnswer(200, "ok")) },
    );
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port,
      socket: {
        open: (opened) => {
          opened.write("GET /large HTTP/1.1\r\n\r\n");
          (opened as Bun.Socket & { pause(): void }).pause();
        },
        data() {},
        close: () => release(),
        error: () => release(),
      },
    });
    await Bun.sleep(600);
    expect(await isAlive(port)).toBe(ok);
    // Reading again shows that the other side has hung up.
    (socket as Bun.Socket & { resume(): void }).resume();
    await taken;
  });

  test("silent ones keep nobody out: the oldest are dropped for new ones", async () => {
    const { port } = serve({ connections: 8 });
    const silent = await Promise.all(Array.from({ length: 40 }, () => RawHttp.open(port)));
    expect(await isAlive(port)).toBe(ok);
    await Bun.sleep(50);
    expect(silent.filter((each) => each.endedAt === 0).length).toBeLessThan(8);
    for (const each of silent) each.close();
  });

  test("when all are being served, another one is told so", async () => {
    const release = Promise.withResolvers<void>();
    const { port } = serve(
      { connections: 4 },
      {
        answer: async () => {
          await release.promise;
          return textAnswer(200, "ok");
        },
      },
    );
    const busy = await Promise.all(Array.from({ length: 4 }, () => RawHttp.open(port)));
    for (const each of busy) each.send("GET / HTTP/1.1\r\n\r\n");
    await Bun.sleep(50);
    expect(await isAlive(port)).toBe("HTTP/1.1 503 Service Unavailable");
    release.resolve();
    for (const each of busy) expect(await each.all()).toStartWith(ok);
    expect(await isAlive(port)).toBe(ok);
  });

  test("ones that end early harm nothing", async () => {
    const { port } = serve();
    for (const part of ["", "GET / HT", "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nab", "GET / HTTP/1.1\r\n\r\n"]) {
      (await RawHttp.open(port)).send(part).close();
    }
    expect(await isAlive(port)).toBe(ok);
  });
});
