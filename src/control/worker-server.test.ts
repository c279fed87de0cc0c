import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { InvalidArgumentError } from "../errors/index.ts";
import { createContainer } from "../registry/index.ts";
import { statusOf } from "./fixtures/raw-http.ts";
import { registerHandler, startDebugServer, WorkerServer, type WorkerServerOptions } from "./index.ts";

interface Reply {
  readonly status: number;
  readonly type: string | null;
  readonly text: string;
}

async function ask(server: WorkerServer, method: string, path: string, init: RequestInit = {}): Promise<Reply> {
  const response = await fetch(`${server.url}${path}`, { method, ...init });
  return { status: response.status, type: response.headers.get("content-type"), text: await response.text() };
}

function open(options: WorkerServerOptions = {}): WorkerServer {
  return new WorkerServer("127.0.0.1", 0, { container: createContainer(), ...options });
}

describe("a worker server answers as c10d's", () => {
  const container = createContainer();
  let server: WorkerServer;
  beforeAll(() => {
    server = open({ container });
    registerHandler(
      "boom",
      () => {
        throw new TypeError("boom");
      },
      { container },
    );
    registerHandler("rejecting", async () => Promise.reject(new Error("no")), { container });
    registerHandler("odd", () => Promise.reject("just a text"), { container });
    registerHandler("nothing", () => {}, { container });
    registerHandler(
      "echo",
      async (request, response) => {
        await Bun.sleep(1);
        response.setStatus(202);
        response.setContent(`${request.getParam("a")}|${request.getParam("none")}|${request.body().length}`, "text/x");
      },
      { container },
    );
  });
  afterAll(() => server.shutdown());

  test("GET /: a page that leads to the names", async () => {
    const page = await ask(server, "GET", "/");
    expect(page).toMatchObject({ status: 200, type: "text/html" });
    const [, href = ""] =
      /^<h1>torch\.distributed\.WorkerServer<\/h1>\n<a href="(.*)">Handler names<\/a>\n$/.exec(page.text) ?? [];
    expect(await (await fetch(new URL(href, server.url))).json()).toContain("ping");
    const withHeader = { headers: { authorization: `Bearer ${server.token}` } };
    const plain = await fetch(new URL("/", server.url), withHeader);
    expect(await plain.text()).toBe('<h1>torch.distributed.WorkerServer</h1>\n<a href="/handler/">Handler names</a>\n');
    expect((await ask(server, "HEAD", "/")).text).toBe("");
  });

  test("GET /handler/: the names, own ones included", async () => {
    const { status, type, text } = await ask(server, "GET", "/handler/");
    expect([status, type]).toEqual([200, "application/json"]);
    expect((JSON.parse(text) as string[]).sort()).toEqual([
      "boom",
      "dump_nccl_trace_json",
      "dump_nccl_trace_pickle",
      "dump_traceback",
      "echo",
      "fr_trace_json",
      "nothing",
      "odd",
      "ping",
      "pyspy_dump",
      "rejecting",
      "torch_profile",
      "wait_counter_values",
    ]);
  });

  test.each<[string, string, number, string | null, string]>([
    ["POST", "/handler/ping", 200, "text/plain", "pong"],
    ["POST", "/handler/nope", 404, "text/plain", "Handler nope not found: Failed to find handler nope"],
    ["POST", "/handler/", 404, "text/plain", "Handler  not found: Failed to find handler "],
    ["POST", "/handler/a%20b", 404, "text/plain", "Handler a b not found: Failed to find handler a b"],
    ["POST", "/handler/%C3%A4%ff", 404, "text/plain", "Handler ä\ufffd not found: Failed to find handler ä\ufffd"],
    ["GET", "/handler/ping", 404, null, ""],
    ["GET", "/handler", 404, null, ""],
    ["GET", "/nope", 404, null, ""],
    ["POST", "/", 404, null, ""],
    ["PUT", "/handler/ping", 404, null, ""],
    ["POST", "/handler/ping/more", 404, null, ""],
    ["POST", "/handler/nothing", 200, null, ""],
    ["POST", "/handler/echo?a=%C3%A4+b&a=%2F", 202, "text/x", "/||0"],
    ["POST", "/handler/odd", 500, "text/plain", "Handler odd failed with unknown exception"],
  ])("%s %s", async (method, path, status, type, text) => {
    expect(await ask(server, method, path)).toEqual({ status, type, text });
  });

  test("a handler receives the body", async () => {
    const body = new Uint8Array(1 << 20);
    expect(await ask(server, "POST", "/handler/echo", { body })).toMatchObject({ status: 202, text: `||${1 << 20}` });
  });

  test("what a handler throws or rejects with is a status 500 that says where", async () => {
    const thrown = await ask(server, "POST", "/handler/boom");
    expect(thrown).toMatchObject({ status: 500, type: "text/plain" });
    expect(thrown.text).toMatch(/^Handler boom failed: TypeError: boom\n\nAt:\n {2}.*worker-server\.test\.ts:\d+/);
    expect((await ask(server, "POST", "/handler/rejecting")).text).toStartWith("Handler rejecting failed: Error: no\n");
  });
});

describe("the token", () => {
  test("is wanted on TCP: as a header, or as the first part of the path", async () => {
    using server = open();
    expect(server.token).toMatch(/^[A-Za-z0-9_-]{32}$/);
    const base = `http://127.0.0.1:${server.port}`;
    expect(server.url).toBe(`${base}/${server.token}`);
    const status = async (path: string, authorization?: string) => {
      const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
      const response = await fetch(base + path, { method: "POST", headers });
      return response.status;
    };
    const ping = "/handler/ping";
    const wrong = `${(server.token ?? "").slice(1)}A`;
    expect(await status(`/${server.token}${ping}`)).toBe(200);
    expect(await status(ping, `Bearer ${server.token}`)).toBe(200);
    expect(await status(ping, `bearer ${server.token}`)).toBe(200);
    const refused = [
      await status(ping),
      await status("/"),
      await status("/nope"),
      await status(`/${wrong}${ping}`),
      await status(`/${server.token}x${ping}`),
      await status(`/${(server.token ?? "").slice(0, -1)}${ping}`),
      await status(ping, `Bearer ${wrong}`),
      await status(ping, `Basic ${server.token}`),
      await status(ping, "Bearer "),
    ];
    expect(refused).toEqual(refused.map(() => 401));
  });

  test("paths are taken as they are: no way around it, and none out of it", async () => {
    using server = open();
    const { port, token = "" } = server;
    const status = (path: string) => statusOf(port, `POST ${path} HTTP/1.1\r\nContent-Length: 0\r\n\r\n`);
    const encoded = [...token].map((character) => `%${character.charCodeAt(0).toString(16)}`).join("");
    for (const path of [
      `//${token}/handler/ping`,
      `/./${token}/handler/ping`,
      `/${encoded}/handler/ping`,
      `/x?/${token}`,
    ]) {
      expect(await status(path)).toBe("HTTP/1.1 401 Unauthorized");
    }
    for (const path of [
      "/handler/../ping",
      "/../../etc/passwd",
      "/handler//ping",
      "//handler/ping",
      "/handler/./ping",
    ]) {
      expect(await status(`/${token}${path}`)).toBe("HTTP/1.1 404 Not Found");
    }
    expect(await status(`/${token}/handler/..%2f..%2fetc%2fpasswd`)).toBe("HTTP/1.1 404 Not Found");
    expect(await status(`/${token}/handler/ping`)).toBe("HTTP/1.1 200 OK");
  });

  test("can be chosen, if it cannot be guessed", () => {
    using server = open({ token: "x".repeat(22) });
    expect(server.url).toEndWith(`/${"x".repeat(22)}`);
    for (const token of ["", "secret", "x".repeat(21), "x".repeat(257), `${"x".repeat(30)}/`, 5 as never]) {
      expect(() => open({ token })).toThrow(InvalidArgumentError);
    }
  });

  test("is not replaced by another one where its name is misspelt", async () => {
    const known = "known are container, token, rank, handlerTimeout";
    expect(() => open({ tokn: "x".repeat(22) } as never)).toThrow(
      `WorkerServer: unknown option tokn (${known}); did you mean "token"?`,
    );
    await expect(startDebugServer({ hst: "0.0.0.0" } as never)).rejects.toThrow("startDebugServer: unknown option hst");
  });

  test("differs between servers", () => {
    using a = open();
    using b = open();
    expect(a.token).not.toBe(b.token);
  });
});

describe("the life of a server", () => {
  test("a port that is taken", () => {
    using server = open();
    expect(() => new WorkerServer("127.0.0.1", server.port)).toThrow(
      `Error binding to 127.0.0.1:${server.port}: EADDRINUSE`,
    );
  });

  test("an unknown host", () => {
    expect(() => new WorkerServer("no.such.host.invalid", 0)).toThrow("Error binding to no.such.host.invalid:0: ");
  });

  test("listens on the interface asked for only", async () => {
    using server = open();
    const other = await Bun.connect({ hostname: "127.0.0.2", port: server.port, socket: { data() {} } }).catch(
      (error: Error) => error,
    );
    expect(other).toBeInstanceOf(Error);
  });

  test("IPv6 and all interfaces", async () => {
    using six = new WorkerServer("::1", 0);
    expect(six.url).toStartWith(`http://[::1]:${six.port}/`);
    expect((await ask(six, "POST", "/handler/ping")).text).toBe("pong");
    using all = new WorkerServer("0.0.0.0", 0);
    expect(all.url).not.toContain("0.0.0.0");
    expect(await (await fetch(`http://127.0.0.1:${all.port}/${all.token}/handler/`)).json()).toContain("ping");
  });

  test("shutdown() frees the port at once, and may be called again", async () => {
    const server = open();
    server.shutdown();
    server.shutdown();
    using next = new WorkerServer("127.0.0.1", server.port);
    expect((await ask(next, "POST", "/handler/ping")).text).toBe("pong");
  });

  test("a server does not keep its process alive, and leaves with it", async () => {
    const script = `
      import { WorkerServer } from ${JSON.stringify(join(import.meta.dir, "index.ts"))};
      const server = new WorkerServer("127.0.0.1", 0);
      console.log(await (await fetch(server.url + "/handler/ping", { method: "POST" })).text());`;
    const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "inherit", timeout: 20_000 });
    expect(await new Response(child.stdout).text()).toBe("pong\n");
    expect(await child.exited).toBe(0);
  });

  test.each<[string, () => unknown]>([
    ["no host", () => new WorkerServer("", 0)],
    ["a host that is no text", () => new WorkerServer(5 as never, 0)],
    ["a path with a NUL", () => new WorkerServer("a\0b")],
    ["a negative port", () => new WorkerServer("127.0.0.1", -2)],
    ["too large a port", () => new WorkerServer("127.0.0.1", 65_536)],
    ["a port that is a text", () => new WorkerServer("127.0.0.1", "80" as never)],
    ["options that are no object", () => new WorkerServer("127.0.0.1", 0, 5 as never)],
    ["a time-out of 0", () => new WorkerServer("127.0.0.1", 0, { handlerTimeout: 0 })],
    ["a rank that is none", () => new WorkerServer("127.0.0.1", 0, { rank: -1 })],
    ["a container that is none", () => new WorkerServer("127.0.0.1", 0, { container: {} as never })],
  ])("refuses %s", (_, act) => {
    expect(act).toThrow(InvalidArgumentError);
  });
});

describe("handlers that take long", () => {
  test("the answer is a status 500 after their time, and the server goes on", async () => {
    const container = createContainer();
    using server = open({ container, handlerTimeout: 200 });
    registerHandler("hanging", () => new Promise<void>(() => {}), { container });
    const hanging = await ask(server, "POST", "/handler/hanging");
    expect(hanging).toEqual({
      status: 500,
      type: "text/plain",
      text: "Handler hanging failed: it has not answered within 200 ms",
    });
    expect((await ask(server, "POST", "/handler/wait_counter_values")).status).toBe(200);
  });

  test("those that never end are limited in number", async () => {
    const container = createContainer();
    using server = open({ container, handlerTimeout: 20 });
    let calls = 0;
    registerHandler(
      "hanging",
      () => {
        calls++;
        return new Promise<void>(() => {});
      },
      { container },
    );
    const statuses: number[] = [];
    for (let i = 0; i < 5; i++) {
      const batch = Array.from({ length: 16 }, async () => (await ask(server, "POST", "/handler/hanging")).status);
      statuses.push(...(await Promise.all(batch)));
    }
    expect(calls).toBe(64);
    expect(statuses.filter((status) => status === 503)).toHaveLength(16);
    expect((await ask(server, "POST", "/handler/ping")).text).toBe("pong");
  });

  test("a large answer arrives whole, also when it is taken slowly", async () => {
    const container = createContainer();
    using server = open({ container });
    const large = new Uint8Array(20 << 20).map((_, i) => i % 251);
    registerHandler("large", (_, response) => response.setContent(large, "application/octet-stream"), { container });
    const response = await fetch(`${server.url}/handler/large`, { method: "POST" });
    await Bun.sleep(100);
    expect(Bun.hash(await response.bytes())).toBe(Bun.hash(large));
  });
});
