import { afterEach, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { DistNetworkError, InvalidArgumentError } from "../../../errors/index.ts";
import { TCPStore } from "../client/tcp-store.ts";
import { fromHex, RawConnection } from "../fixtures/raw-connection.ts";
import { OutputBuffer } from "../wire/output-buffer.ts";
import { limits, QueryType } from "../wire/protocol.ts";
import { TCPStoreServer, type TCPStoreServerOptions } from "./server.ts";

const hello = "00 cef7853c";
const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function startServer(options: Partial<TCPStoreServerOptions> = {}): Promise<TCPStoreServer> {
  const server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0, ...options });
  cleanups.push(() => server.close());
  return server;
}

async function connect(server: TCPStoreServer, first = hello): Promise<RawConnection> {
  const raw = await RawConnection.open(server.port);
  cleanups.push(() => raw.close());
  if (first !== "") raw.send(first);
  return raw;
}

/** The bytes of a request. */
function frame(write: (output: OutputBuffer) => void): Uint8Array {
  const output = new OutputBuffer();
  write(output);
  return output.drain();
}

function set(key: string, value: Uint8Array | string): Uint8Array {
  return frame((output) => {
    output.u8(QueryType.SET);
    output.text(key);
    output.copy(typeof value === "string" ? Buffer.from(value) : value);
  });
}

function keyed(type: QueryType, ...keys: string[]): Uint8Array {
  return frame((output) => {
    output.u8(type);
    if (type === QueryType.WAIT || type === QueryType.CHECK || type === QueryType.MULTI_GET) output.u64(keys.length);
    for (const key of keys) output.text(key);
  });
}

/** Resolves when the server has executed everything that `raw` sent. */
async function synced(raw: RawConnection): Promise<void> {
  raw.send("0d 01000000");
  expect(await raw.receive(4)).toBe("01000000");
}

/** The same, for a client that sends a request. */
async function asked(raw: RawConnection): Promise<void> {
  raw.send("07");
  expect(await raw.receive(8)).toBe("0000000000000000");
}

describe("PyTorch's captured bytes", () => {
  /** What the client sends and what the server answers, in order, on one connection. */
  const captured: readonly (readonly [title: string, request: string, reply: string])[] = [
    ["ping", "0d e6690000", "e6690000"],
    ["worker join", "04 0500000000000000 696e69742f 0100000000000000", "0100000000000000"],
    ["set", "01 0200000000000000 2f61 0100000000000000 31", ""],
    ["get, wait", "06 0100000000000000 0200000000000000 2f61", "00"],
    ["get, get", "03 0200000000000000 2f61", "0100000000000000 31"],
    ["check of nothing", "05 0000000000000000", "00"],
    ["wait, twice the same key", "06 0200000000000000 0300000000000000 2f6431 0300000000000000 2f6431", ""],
    ["cancel", "0c", "01"],
    ["queue push", "0e 0200000000000000 2f71 0100000000000000 78", ""],
    ["queue length", "10 0200000000000000 2f71", "0100000000000000"],
    ["queue pop", "0f 0200000000000000 2f71", "0100000000000000 0100000000000000 78"],
    ["queue pop, empty", "0f 0200000000000000 2f71", "0000000000000000"],
    ["list keys", "11", "0200000000000000 0500000000000000 696e69742f 0200000000000000 2f61"],
    ["barrier of one", "12 0200000000000000 2f42 0100000000000000", "00"],
    ["get of an absent key", "03 0200000000000000 2f7a", "0000000000000000"],
    ["check, absent", "05 0100000000000000 0200000000000000 2f7a", "01"],
    ["add", "04 0200000000000000 2f6e ffffffffffffffff", "ffffffffffffffff"],
    ["append", "09 0200000000000000 2f61 0100000000000000 32", ""],
    ["compare and set", "02 0200000000000000 2f61 0200000000000000 3132 0100000000000000 33", "0100000000000000 33"],
    ["multi set", "0b 0100000000000000 0200000000000000 2f62 0100000000000000 34", ""],
    [
      "multi get",
      "0a 0200000000000000 0200000000000000 2f61 0200000000000000 2f62",
      "0100000000000000 33 0100000000000000 34",
    ],
    ["delete", "08 0200000000000000 2f62", "0100000000000000"],
    ["delete, absent", "08 0200000000000000 2f62", "0000000000000000"],
    ["number of keys", "07", "0400000000000000"],
  ];

  test("one request after the other", async () => {
    const raw = await connect(await startServer());
    for (const [title, request, reply] of captured) {
      raw.send(request);
      const expected = Buffer.from(fromHex(reply)).toString("hex");
      expect([title, await raw.receive(expected.length / 2)]).toEqual([title, expected]);
    }
    await synced(raw);
  });

  test.each([1, 2, 3, 7, 64])("all at once, in pieces of %d bytes", async (size) => {
    const raw = await connect(await startServer(), "");
    const requests = fromHex(hello + captured.map(([, request]) => request).join(""));
    const expected = Buffer.from(fromHex(captured.map(([, , reply]) => reply).join(""))).toString("hex");
    for (let at = 0; at < requests.length; at += size) {
      raw.send(requests.subarray(at, at + size));
      if (at % 5 === 0) await Bun.sleep(0);
    }
    expect(await raw.receive(expected.length / 2)).toBe(expected);
    await synced(raw);
  });
});

describe("waits", () => {
  test("are answered when the last key is set, by whichever op", async () => {
    const server = await startServer();
    const [waiter, setter] = [await connect(server), await connect(server)];
    waiter.send(keyed(QueryType.WAIT, "/a", "/b", "/b"));
    setter.send(set("/b", "1"));
    await synced(setter);
    await synced(waiter);
    setter.send("04 0200000000000000 2f61 0100000000000000");
    expect(await waiter.receive(1)).toBe("00");
  });

  test("a cancellation that crosses the reply is answered after it", async () => {
    const server = await startServer();
    const [waiter, setter] = [await connect(server), await connect(server)];
    waiter.send(keyed(QueryType.WAIT, "/a"));
    await synced(waiter);
    setter.send(set("/a", "1"));
    await synced(setter);
    waiter.send("0c");
    expect(await waiter.receive(2)).toBe("0001");
    await synced(waiter);
  });

  test("a cancelled wait is not answered later", async () => {
    const server = await startServer();
    const [waiter, setter] = [await connect(server), await connect(server)];
    waiter.send(keyed(QueryType.WAIT, "/a"));
    waiter.send("0c");
    expect(await waiter.receive(1)).toBe("01");
    setter.send(set("/a", "1"));
    await synced(setter);
    await synced(waiter);
  });

  test("those of a client that has disconnected are dropped", async () => {
    const server = await startServer();
    const [waiter, setter] = [await connect(server), await connect(server)];
    waiter.send(keyed(QueryType.WAIT, "/a"));
    await synced(waiter);
    waiter.close();
    expect(await server.drained(20)).toBe(false);
    setter.send(set("/a", "1"));
    await synced(setter);
    expect(server.clients).toBe(1);
  });

  test("a barrier releases no client before all have arrived", async () => {
    const server = await startServer();
    const [a, b] = [await connect(server), await connect(server)];
    const barrier = "12 0200000000000000 2f42 0200000000000000";
    a.send(barrier);
    await synced(a);
    b.send(barrier);
    expect(await a.receive(1)).toBe("00");
    expect(await b.receive(1)).toBe("00");
  });
});

describe("strangers", () => {
  test.each([
    ["another protocol", Buffer.from("GET / HTTP/1.1\r\n\r\n")],
    ["a request before VALIDATE", Buffer.from(keyed(QueryType.GET, "/a"))],
    ["the wrong number", fromHex("00 00000000")],
    ["random bytes", crypto.getRandomValues(new Uint8Array(500)).map((byte) => byte | 0x80)],
  ])("%s is dropped, others are not affected", async (_, bytes) => {
    const dropped: string[] = [];
    const server = await startServer({ onDrop: (reason, peer) => dropped.push(`${peer}: ${reason}`) });
    const client = await connect(server);
    await synced(client);
    const stranger = await connect(server, "");
    stranger.send(bytes);
    expect(await stranger.hungUp()).toBe(true);
    expect(dropped).toHaveLength(1);
    expect(dropped[0]).toStartWith("127.0.0.1:");
    await synced(client);
    expect([server.clients, server.dropped]).toEqual([1, 1]);
  });

  test("onLeave reports clients that have disconnected, by their own address, and no others", async () => {
    const left: string[] = [];
    const server = await startServer({ onLeave: (peer) => left.push(peer) });
    const [first, second] = await Promise.all(
      [0, 1].map(() => TCPStore.connect({ host: "127.0.0.1", port: server.port, secret: null })),
    );
    const [a, b] = [first?.localEndpoint, second?.localEndpoint];
    expect(a).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(b).not.toBe(a);
    const stranger = await connect(server, "");
    stranger.close();
    await first?.close();
    for (const end = performance.now() + 5_000; left.length < 1 && performance.now() < end; await Bun.sleep(5));
    expect(left).toEqual([a ?? ""]);
    await second?.set("k", "v");
    await second?.close();
    for (const end = performance.now() + 5_000; left.length < 2 && performance.now() < end; await Bun.sleep(5));
    expect(left).toEqual([a ?? "", b ?? ""]);
  });

  test("a connection that stays silent is dropped, one that has completed the handshake may be silent", async () => {
    const server = await startServer({ handshakeTimeout: 60 });
    const client = await connect(server);
    const [silent, slow] = [await connect(server, ""), await connect(server, "00")];
    expect(await silent.hungUp()).toBe(true);
    expect(await slow.hungUp()).toBe(true);
    const later = await connect(server, "");
    expect(await later.hungUp()).toBe(true);
    await synced(client);
    expect(server.dropped).toBe(3);
  });

  test("silent ones are dropped when there are too many connections", async () => {
    const server = await startServer({ maxConnections: 3 });
    const silent = [await connect(server, ""), await connect(server, ""), await connect(server, "")];
    const clients = [await connect(server), await connect(server), await connect(server)];
    for (const client of clients) await asked(client);
    for (const stranger of silent) expect(await stranger.hungUp()).toBe(true);
    const fourth = await connect(server);
    expect(await fourth.hungUp()).toBe(true);
    for (const client of clients) await asked(client);
  });

  test("then those that completed the handshake and sent no request, the oldest first", async () => {
    const server = await startServer({ maxConnections: 3 });
    const client = await connect(server);
    await asked(client);
    const idlers = [await connect(server), await connect(server)];
    for (const idler of idlers) await synced(idler);
    const next = await connect(server);
    await asked(next);
    expect(await idlers[0]?.hungUp()).toBe(true);
    for (const other of [client, next]) await asked(other);
    expect(idlers[1]?.closed).toBe(false);
  });

  test.each([[null], ["a secret"]])("a client of a full server gets SERVER_FULL (secret: %p)", async (secret) => {
    const server = await startServer({ maxConnections: 1, secret });
    const at = { host: "127.0.0.1", port: server.port, secret };
    const first = await TCPStore.connect(at);
    await first.set("k", "v");
    await first.get("k");
    const error = await TCPStore.connect({ ...at, timeout: 400 }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: "CONNECT_TIMEOUT", cause: { code: "SERVER_FULL" } });
    expect(String(error)).toContain("is full: it has as many clients");
    // It is not, once a client disconnects.
    const waiting = TCPStore.connect(at);
    await first.close();
    await (await waiting).close();
  });
});

test("as many clients can wait to be accepted as the kernel allows", async () => {
  const server = await startServer();
  const count = Math.min(Number(readFileSync("/proc/sys/net/core/somaxconn", "utf8")), 700);
  const code = `
    let connected = 0;
    const socket = { data() {} };
    for (let i = 0; i < ${count}; i++) void Bun.connect({ hostname: "127.0.0.1", port: ${server.port}, socket }).then(() => connected++, () => {});
    for (let i = 0; i < 400 && connected < ${count}; i++) await Bun.sleep(5);
    console.log(connected);
    process.exit();`;
  // It blocks this thread, which accepts none of them meanwhile. With Bun's 512 the kernel would drop packets of the
  // rest.
  expect(Bun.spawnSync([process.execPath, "-e", code]).stdout.toString().trim()).toBe(String(count));
});

describe("limits", () => {
  const u64 = (value: number | bigint) => frame((output) => output.i64(BigInt(value)));
  const bad: readonly (readonly [string, Uint8Array])[] = [
    ["a key of 8193 bytes", Buffer.concat([fromHex("03"), u64(limits.keyBytes + 1)])],
    ["a value of 8 MiB and a byte", Buffer.concat([set("/k", "").subarray(0, -8), u64(limits.valueBytes + 1)])],
    ["131073 keys", Buffer.concat([fromHex("05"), u64(limits.keys + 1)])],
    ["2^63 keys", Buffer.concat([fromHex("06"), u64(-(2n ** 63n))])],
    ["2^64 - 1 pairs", Buffer.concat([fromHex("0b"), u64(-1)])],
    ["a key of 2^63 bytes", Buffer.concat([fromHex("04"), u64(-(2n ** 63n))])],
    ["an unknown query", fromHex("13")],
    ["query 255", fromHex("ff")],
    [
      "an ADD to a value that is not a counter",
      Buffer.concat([set("/k", "12abc"), fromHex("04 0200000000000000 2f6b 0100000000000000")]),
    ],
    [
      "a sum past 64 bits",
      Buffer.concat([set("/k", String(2n ** 63n - 1n)), fromHex("04 0200000000000000 2f6b 0100000000000000")]),
    ],
  ];

  const repeated = (request: Uint8Array, count: number) => Buffer.concat(Array.from({ length: count }, () => request));
  const many = Array.from({ length: 70_000 }, (_, i) => i.toString(36));
  const floods: readonly (readonly [string, Uint8Array])[] = [
    [
      "more barriers at a time than a client has",
      repeated(fromHex(`12 0200000000000000 2f62 ${"ff".repeat(7)}7f`), 100_000),
    ],
    ["more waits at a time", repeated(keyed(QueryType.WAIT, "/never"), 100_000)],
    ["more keys in its waits than one may have", repeated(keyed(QueryType.WAIT, ...many), 2)],
  ];

  test.each(floods)("%s end the connection, and others are served", async (_, flood) => {
    const server = await startServer();
    const [other, raw] = [await connect(server), await connect(server)];
    await synced(raw);
    for (let sent = 0; sent < flood.length && !raw.closed; await synced(other)) {
      sent += Math.max(raw.send(flood.subarray(sent, sent + 65_536)), 0);
    }
    expect(await raw.hungUp()).toBe(true);
    await synced(other);
  });

  test("waits that have ended no longer count", async () => {
    const server = await startServer();
    const raw = await connect(server);
    for (let round = 0; round < 4; round++) {
      raw.send(keyed(QueryType.WAIT, ...many.slice(0, 40_000)));
      raw.send("0c");
      expect(await raw.receive(1)).toBe("01");
    }
    await synced(raw);
  });

  test.each(bad)("%s ends the connection, at once and alone", async (_, request) => {
    const server = await startServer();
    const [other, raw] = [await connect(server), await connect(server)];
    await synced(raw);
    raw.send(request);
    expect(await raw.hungUp()).toBe(true);
    await synced(other);
  });

  test("the largest key and value pass", async () => {
    const raw = await connect(await startServer());
    const key = `/${"k".repeat(limits.keyBytes - 1)}`;
    raw.send(set(key, "v"));
    raw.send(keyed(QueryType.CHECK, key));
    expect(await raw.receive(1)).toBe("00");
  });

  test("a slow reader delays no other client and gets everything", async () => {
    const server = await startServer();
    const [slow, other] = [await connect(server), await connect(server)];
    const value = new Uint8Array(256 * 1024).map((_, i) => i);
    other.send(set("/big", value));
    await synced(other);
    slow.stopReading();
    const count = 80;
    for (let i = 0; i < count; i++) slow.send(keyed(QueryType.GET, "/big"));
    for (let i = 0; i < 20; i++) {
      const started = performance.now();
      await synced(other);
      expect(performance.now() - started).toBeLessThan(500);
    }
    slow.startReading();
    const reply = `${Buffer.from(frame((output) => output.u64(value.length))).toString("hex")}${Buffer.from(value).toString("hex")}`;
    for (let i = 0; i < count; i++) expect((await slow.receive(value.length + 8)) === reply).toBe(true);
  }, 20_000);

  test("a reply that is far larger than its request takes no memory before it is read", async () => {
    const server = await startServer();
    const [slow, other] = [await connect(server), await connect(server)];
    const value = Buffer.alloc(16_000, 7);
    other.send(set("/v", value));
    await synced(other);
    slow.stopReading();
    const count = 25_000;
    slow.send(keyed(QueryType.WAIT, "/late"));
    const before = process.memoryUsage.rss();
    const request = keyed(QueryType.MULTI_GET, ...Array<string>(count).fill("/v"));
    for (let sent = 0; sent < request.length; await Bun.sleep(1)) sent += slow.send(request.subarray(sent));
    let peak = 0;
    for (let i = 0; i < 20; i++) {
      other.send(set("/v", "changed"));
      await synced(other);
      peak = Math.max(peak, process.memoryUsage.rss() - before);
    }
    // The whole of it is 400 MB.
    expect(peak).toBeLessThan(150_000_000);
    other.send(set("/late", ""));
    await synced(other);
    slow.startReading();
    const reply = `${Buffer.from(frame((output) => output.copy(value))).toString("hex")}`;
    for (let i = 0; i < count; i += 100) expect((await slow.receive(100 * 16_008)) === reply.repeat(100)).toBe(true);
    // The end of the wait, in the middle of the reply, does not split it.
    expect(await slow.receive(1)).toBe("00");
    await synced(slow);
  }, 60_000);
});

describe("listening", () => {
  test("a port in use is named", async () => {
    const { port } = await startServer();
    const second = TCPStoreServer.listen({ host: "127.0.0.1", port });
    await expect(second).rejects.toBeInstanceOf(DistNetworkError);
    await expect(second).rejects.toMatchObject({ code: "PORT_IN_USE", details: { host: "127.0.0.1", port } });
    await expect(second).rejects.toThrow(`127.0.0.1:${port}`);
  });

  test("only on the interface in the options", async () => {
    const server = await startServer({ host: "127.0.0.1" });
    expect(server.address).toBe("127.0.0.1");
    const elsewhere = RawConnection.open(server.port, "127.0.0.2");
    await expect(elsewhere).rejects.toMatchObject({ code: "ECONNREFUSED" });
  });

  test("a loopback name is loopback", async () => {
    const server = await startServer({ host: "localhost" });
    expect(["127.0.0.1", "::1"]).toContain(server.address);
    expect(server.host).toBe("localhost");
  });

  test("unknown hosts and bad ports", async () => {
    await expect(TCPStoreServer.listen({ host: "no-such-host.invalid", port: 0 })).rejects.toMatchObject({
      code: "UNKNOWN_HOST",
    });
    await expect(TCPStoreServer.listen({ host: "192.0.2.1", port: 0 })).rejects.toMatchObject({
      code: "LISTEN_FAILED",
    });
    for (const port of [-1, 65_536, 1.5]) {
      await expect(TCPStoreServer.listen({ host: "127.0.0.1", port })).rejects.toBeInstanceOf(InvalidArgumentError);
    }
  });

  test("drained resolves when the last client disconnects", async () => {
    const server = await startServer();
    expect(await server.drained(1_000)).toBe(true);
    const clients = [await connect(server), await connect(server)];
    for (const client of clients) await synced(client);
    expect(await server.drained(20)).toBe(false);
    const drained = server.drained(2_000);
    for (const client of clients) client.close();
    expect(await drained).toBe(true);
  });
});
