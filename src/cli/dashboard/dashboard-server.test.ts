import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { DashboardServer, type Viewer } from "./dashboard-server.ts";
import { pageFiles } from "./page-files.ts";
import { isSameToken, newToken } from "./token.ts";

const files = await pageFiles();
const token = newToken();
let server: DashboardServer;
let messageFor: (viewer: Viewer) => string | undefined;
const viewers: number[] = [];

beforeEach(() => {
  messageFor = () => undefined;
  viewers.length = 0;
  server = new DashboardServer({
    ...{ port: 0, token, files },
    messageFor: (viewer) => messageFor(viewer),
    onViewers: (count) => viewers.push(count),
  });
});
afterEach(() => server.close(0));

const port = (): number => Number(new URL(server.url).port);

/** The reply to a request with exactly these headers. */
async function ask(line: string, ...headers: readonly string[]): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const socket = connect(port(), "127.0.0.1");
  let reply = "";
  socket.on("data", (bytes) => {
    reply += bytes.toString();
  });
  socket.on("close", () => resolve(reply));
  socket.on("error", reject);
  socket.write(`${[`${line} HTTP/1.1`, ...headers, "Connection: close"].join("\r\n")}\r\n\r\n`);
  return promise;
}

const own = (): string => `Host: 127.0.0.1:${port()}`;
const status = (reply: string): number => Number(/^HTTP\/1\.1 (\d+)/.exec(reply)?.[1]);

describe("the page", () => {
  test("comes with headers that keep everything else out, and its address to itself", async () => {
    const reply = await fetch(server.url);
    expect(reply.status).toBe(200);
    expect(await reply.text()).toContain('<script type="module" src="main.ts">');
    const { headers } = reply;
    expect(headers.get("content-type")).toBe("text/html; charset=utf-8");
    expect(headers.get("content-security-policy")).toBe(
      `default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ws://127.0.0.1:${port()}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
    );
    expect(headers.get("referrer-policy")).toBe("no-referrer");
    expect(headers.get("cache-control")).toBe("no-store");
    expect(headers.get("x-content-type-options")).toBe("nosniff");
    expect(headers.get("access-control-allow-origin")).toBeNull();
  });

  test("has all files that it imports, as JavaScript", async () => {
    const missing: string[] = [];
    for (const [name, { body, type }] of files) {
      if (!name.endsWith(".ts")) continue;
      expect(type).toBe("text/javascript; charset=utf-8");
      for (const [, target = ""] of body.matchAll(/from\s*"([^"]+)"/g))
        if (!target.startsWith("./") || !files.has(target.slice(2))) missing.push(target);
      new Bun.Transpiler({ loader: "js" }).transformSync(body);
    }
    expect(missing).toEqual([]);
    expect(await (await fetch(`${server.url}main.ts`)).text()).not.toContain("import type");
  });

  test("has a token of 192 bits, which is compared as a whole", () => {
    expect(Buffer.from(token, "base64url")).toHaveLength(24);
    expect(newToken()).not.toBe(token);
    expect(isSameToken(token, token)).toBe(true);
    for (const other of ["", token.slice(1), `${token}x`, token.toLowerCase()]) {
      expect(isSameToken(other, token)).toBe(false);
    }
  });
});

describe("what is not found", () => {
  test("is everything without the token, in the same words", async () => {
    const paths = [
      ...["/", "/favicon.ico", "/events", "/style.css", `/${token.slice(0, -1)}/`, `/${token}x/events`, `/x/${token}/`],
      ...[
        `/${token}`,
        `/${token}/absent`,
        `/${token}/main.ts/`,
        `/${token}/../snapshot.ts`,
        `/${token}/%2e%2e/token.ts`,
      ],
    ];
    const replies = await Promise.all(paths.map((path) => ask(`GET ${path}`, own())));
    const texts = replies.map((reply) => reply.replace(/^Date:.*\r\n/m, ""));
    expect(texts.map(status)).toEqual(paths.map(() => 404));
    expect(new Set(texts).size).toBe(1);
  });

  test("is the page under the name of another site", async () => {
    const path = `GET /${token}/`;
    expect(status(await ask(path, own()))).toBe(200);
    expect(status(await ask(path, `Host: localhost:${port()}`))).toBe(200);
    for (const host of ["evil.example", `evil.example:${port()}`, "127.0.0.1", `127.0.0.1:${port() + 1}`]) {
      expect(status(await ask(path, `Host: ${host}`))).toBe(404);
    }
  });

  test("are the events for the page of another site", async () => {
    const upgrade = [
      ...["Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"],
      ...["Connection: Upgrade", own()],
    ];
    const line = `GET /${token}/events`;
    expect(status(await ask(line, "Origin: http://evil.example", ...upgrade))).toBe(404);
    expect(status(await ask(line, "Origin: null", ...upgrade))).toBe(404);
    expect(status(await ask(line, own()))).toBe(426);
  });
});

test("other methods than GET and HEAD are refused, also with a body", async () => {
  expect(status(await ask(`POST /${token}/`, own(), "Content-Length: 0"))).toBe(405);
  expect(status(await ask(`OPTIONS /${token}/`, own()))).toBe(405);
  expect(status(await ask("DELETE /", own()))).toBe(404);
  expect((await fetch(server.url, { method: "POST", body: "x".repeat(1_000) })).ok).toBe(false);
  const head = await ask(`HEAD /${token}/`, own());
  expect([status(head), head.endsWith("\r\n\r\n")]).toEqual([200, true]);
});

describe("events", () => {
  const address = (): string => `${server.url.replace("http", "ws")}events`;

  /** A browser's connection, with what it has got. */
  async function view(): Promise<{ socket: WebSocket; got: string[]; closed: Promise<number> }> {
    const socket = new WebSocket(address());
    const got: string[] = [];
    socket.onmessage = ({ data }) => got.push(String(data));
    const closed = new Promise<number>((resolve) => {
      socket.onclose = ({ code }) => resolve(code);
    });
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onerror = reject;
    });
    return { socket, got, closed };
  }

  test("go to each viewer from where it is, the last of them also when the server closes", async () => {
    const [a, b] = [await view(), await view()];
    expect(viewers.at(-1)).toBe(2);
    messageFor = (viewer) => `${viewer.cursor++}`;
    server.send();
    server.send();
    for (let i = 0; i < 200 && b.got.length < 2; i++) await Bun.sleep(5);
    b.socket.close();
    await b.closed;
    server.send();
    const began = performance.now();
    await server.close(300);
    expect(performance.now() - began).toBeLessThan(1_000);
    expect(await a.closed).toBe(1_000);
    expect([a.got, b.got]).toEqual([
      ["0", "1", "2"],
      ["0", "1"],
    ]);
  });

  test("go to eight viewers; a ninth is refused, and so is one that talks", async () => {
    const all = await Promise.all(Array.from({ length: 8 }, view));
    await expect(view()).rejects.toBeDefined();
    all[0]?.socket.send("hello");
    await all[0]?.closed;
    for (let i = 0; i < 200 && viewers.at(-1) !== 7; i++) await Bun.sleep(5);
    expect(viewers.at(-1)).toBe(7);
    all[0] = await view();
    for (const { socket } of all) socket.close();
  });

  test("do not wait for a viewer that reads nothing, nor pile up for it, nor delay the end", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const slow: Socket = connect(port(), "127.0.0.1", () => {
      const lines = [`GET /${token}/events HTTP/1.1`, own(), "Connection: Upgrade", "Upgrade: websocket"];
      lines.push("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13");
      slow.write(`${lines.join("\r\n")}\r\n\r\n`);
    });
    slow.once("data", () => {
      slow.pause();
      resolve();
    });
    slow.on("error", () => {});
    await promise;
    const quick = await view();
    let asked = 0;
    messageFor = () => {
      asked++;
      return "x".repeat(2 ** 20);
    };
    for (let i = 0; i < 40; i++) {
      server.send();
      await Bun.sleep(5);
    }
    // The kernel holds a few megabytes for the slow one, and the server one message.
    expect(quick.got).toHaveLength(40);
    expect(asked).toBeLessThan(60);
    const began = performance.now();
    await server.close(300);
    expect(performance.now() - began).toBeLessThan(1_000);
    slow.destroy();
  });
});

test("a port in use is an error that says so", () => {
  const options = { token, files, messageFor: () => undefined, onViewers: () => {} };
  expect(() => new DashboardServer({ port: port(), ...options })).toThrow(
    expect.objectContaining({ code: "PORT_IN_USE", message: expect.stringContaining(`port ${port()} of 127.0.0.1`) }),
  );
});
