import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DistNetworkError, DistStoreError, DistTimeoutError, InvalidArgumentError } from "../../errors/index.ts";
import { testStore } from "../../testing/store-suite/store-suite.ts";
import { RedisServer } from "../fixtures/redis-server.ts";
import { RedisStore, type RedisStoreOptions } from "./redis-store.ts";

let server: RedisServer;
let prefixes = 0;
beforeAll(async () => {
  server = await RedisServer.start();
});
afterAll(() => server.stop());

const url = () => `redis://127.0.0.1:${server.port}`;
const newPrefix = () => `test ${prefixes++}`;

testStore("RedisStore", { open: () => RedisStore.connect(url(), { prefix: newPrefix() }) });

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function connect(options: RedisStoreOptions = {}, to = url()): Promise<RedisStore> {
  const store = await RedisStore.connect(to, { prefix: newPrefix(), timeout: 20_000, ...options });
  cleanups.push(() => store.close());
  return store;
}

async function startServer(options: Parameters<typeof RedisServer.start>[0] = {}): Promise<RedisServer> {
  const started = await RedisServer.start(options);
  cleanups.push(() => started.stop());
  return started;
}

async function rejection(promise: Promise<unknown>): Promise<Error> {
  const error = await promise.then(
    () => new Error("resolved"),
    (reason: unknown) => reason,
  );
  return error instanceof Error ? error : new Error(`rejected with ${error}`);
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

describe("the URL", () => {
  test.each([
    ["redis://127.0.0.1:PORT", "c10d"],
    ["redis://127.0.0.1:PORT/", "c10d"],
    ["redis://127.0.0.1:PORT/3", "c10d"],
    ["redis://127.0.0.1:PORT/job-7", "job-7"],
    ["redis://127.0.0.1:PORT/3/a/b%20c", "a/b c"],
    ["redis://127.0.0.1:PORT/7up", "7up"],
    ["redis://127.0.0.1:PORT/3?prefix=mine", "mine"],
    ["redis+unix://SOCKET?prefix=mine", "mine"],
    ["redis+unix://SOCKET", "c10d"],
  ])("%s: prefix %s", async (template, prefix) => {
    const to = template.replace("PORT", String(server.port)).replace("SOCKET", server.socket);
    const store = await RedisStore.connect(to);
    cleanups.push(() => store.close());
    expect(store.prefix).toBe(prefix);
    await store.set("k", "v");
    expect(await store.deleteKey("k")).toBe(true);
  });

  test.each(["", "127.0.0.1:6379", "http://127.0.0.1", "redis://", "redis+unix://"])("%p is invalid", async (bad) => {
    expect(await rejection(RedisStore.connect(bad))).toBeInstanceOf(InvalidArgumentError);
  });

  test("keys of different prefixes and databases do not collide", async () => {
    const stores = [
      await connect({ prefix: "a" }),
      await connect({ prefix: "b" }),
      await connect({ prefix: "a" }, `${url()}/1`),
    ];
    for (const [i, store] of stores.entries()) await store.set("k", String(i));
    expect(await Promise.all(stores.map(async (store) => text(await store.get("k"))))).toEqual(["0", "1", "2"]);
    expect(await stores[0]?.numKeys()).toBe(1);
  });

  test("bad options", async () => {
    for (const options of [{ prefix: "" }, { worldSize: 0 }, { worldSize: 1.5 }, { timeout: 0 }]) {
      expect(await rejection(RedisStore.connect(url(), options))).toBeInstanceOf(InvalidArgumentError);
    }
  });
});

describe("values", () => {
  test("all bytes, in every op", async () => {
    const store = await connect();
    const bytes = Uint8Array.from({ length: 512 }, (_, i) => i);
    await store.set("k", bytes);
    expect(await store.get("k")).toEqual(bytes);
    expect(await store.compareSet("k", "other", "x")).toEqual(bytes);
    expect(await store.compareSet("k", bytes, bytes.toReversed())).toEqual(bytes.toReversed());
    await store.append("k", bytes);
    expect(await store.multiGet(["k"])).toEqual([Uint8Array.from([...bytes.toReversed(), ...bytes])]);
    await store.queuePush("q\0q", bytes);
    expect(await store.queuePop("q\0q")).toEqual(bytes);
  });

  test("counters past 2^53 are exact, or refused", async () => {
    const store = await connect();
    await store.set("c", "9007199254740995");
    expect(await store.add("c", -10)).toBe(9007199254740985);
    await store.set("c", "-0009007199254740995");
    expect(await rejection(store.add("c", 1))).toMatchObject({ code: "COUNTER_OVERFLOW" });
    await store.set("c", "99999999999999999999");
    expect(await rejection(store.add("c", -1))).toMatchObject({ code: "COUNTER_OVERFLOW" });
    expect(text(await store.get("c"))).toBe("99999999999999999999");
    await store.set("c", "+0007");
    expect(await store.add("c", -7)).toBe(0);
    expect(text(await store.get("c"))).toBe("0");
  });

  test("a value of 4 MiB of noise", async () => {
    const store = await connect();
    const value = Buffer.alloc(
      4 << 20,
      Uint8Array.from({ length: 977 }, (_, i) => i * 7),
    );
    await store.set("k", value);
    expect(Buffer.compare(await store.get("k"), value)).toBe(0);
  });
});

describe("several clients", () => {
  test("lose nothing", async () => {
    const prefix = newPrefix();
    const stores = await Promise.all(Array.from({ length: 8 }, () => connect({ prefix })));
    const popped: Promise<Uint8Array>[] = [];
    await Promise.all(
      stores.map(async (store, i) => {
        for (let n = 0; n < 50; n++) {
          popped.push(store.queuePop("queue"));
          await store.add("count", 1);
          await store.append("log", String(i));
          await store.queuePush("queue", `${i} ${n}`);
        }
      }),
    );
    expect(new Set((await Promise.all(popped)).map(text)).size).toBe(400);
    expect(text((await stores[0]?.get("count")) ?? new Uint8Array())).toBe("400");
    expect((await stores[0]?.get("log"))?.length).toBe(400);
    expect(await stores[0]?.queueLen("queue")).toBe(0);
  });

  test("waits do not poll: the server sees no command while a wait is pending", async () => {
    const [store, watcher] = [await connect({ prefix: "quiet" }), await connect()];
    const waiting = store.wait(["late"]);
    await Bun.sleep(50);
    const client = new Bun.RedisClient(url());
    const commands = async () =>
      Number(/total_commands_processed:(\d+)/.exec(String(await client.send("INFO", ["stats"])))?.[1]);
    const before = await commands();
    await Bun.sleep(200);
    // The one is the INFO command itself.
    expect((await commands()) - before).toBe(1);
    client.close();
    const other = await connect({ prefix: "quiet" });
    await other.set("late", "v");
    await waiting;
    await watcher.close();
  });

  test("after waits the server has no subscription left", async () => {
    const store = await connect();
    await Promise.all([...Array(20).keys()].map((i) => rejection(store.get(`k${i % 7}`, { timeout: 20 + i }))));
    const client = new Bun.RedisClient(url());
    let channels: unknown;
    for (let i = 0; i < 100; i++) {
      channels = await client.send("PUBSUB", ["CHANNELS", `${store.prefix}*`]);
      if (Array.isArray(channels) && channels.length === 0) break;
      await Bun.sleep(10);
    }
    client.close();
    expect(channels).toEqual([]);
  });

  test("the last of worldSize handles removes everything", async () => {
    const prefix = newPrefix();
    const client = new Bun.RedisClient(url());
    cleanups.push(() => client.close());
    const names = () => client.send("KEYS", [`${prefix}:*`]);
    const [first, second] = [await connect({ prefix, worldSize: 2 }), await connect({ prefix, worldSize: 2 })];
    await first.set("k", "v");
    await first.queuePush("q", "v");
    const twin = await first.clone();
    await twin.close();
    await first.close();
    expect(await names()).toHaveLength(3);
    await second.close();
    expect(await names()).toEqual([]);
  });

  test("an idle store does not keep the process alive, a wait does", async () => {
    const module = JSON.stringify(join(import.meta.dir, "redis-store.ts"));
    const code = `const { RedisStore } = await import(${module});
      const store = await RedisStore.connect(${JSON.stringify(url())}, { prefix: "idle" });
      const error = await store.get("absent", { timeout: 100 }).catch((reason) => reason);
      process.on("exit", () => console.log(error.code));`;
    const child = Bun.spawn([process.execPath, "-e", code], { stdout: "pipe", stderr: "inherit", timeout: 10_000 });
    expect(await child.exited).toBe(0);
    expect((await child.stdout.text()).trim()).toBe("STORE_TIMEOUT");
  });
});

describe("connecting", () => {
  test("no server: the time-out names it", async () => {
    const stopped = await startServer();
    await stopped.stop();
    const started = performance.now();
    const error = await rejection(RedisStore.connect(`redis://u:secret@127.0.0.1:${stopped.port}`, { timeout: 150 }));
    expect(performance.now() - started).toBeWithin(140, 2_000);
    expect(error).toBeInstanceOf(DistTimeoutError);
    expect(error).toMatchObject({ code: "CONNECT_TIMEOUT", details: { host: "127.0.0.1", port: stopped.port } });
    expect(error.message).toContain(`127.0.0.1:${stopped.port}`);
    expect(error.message).not.toContain("secret");
  });

  test("waits for a server that starts later", async () => {
    const { port, stop } = await startServer().then((first) => ({ port: first.port, stop: () => first.stop() }));
    await stop();
    const connecting = connect({ timeout: 10_000 }, `redis://127.0.0.1:${port}`);
    await Bun.sleep(50);
    await startServer({ port });
    expect(await (await connecting).add("n", 1)).toBe(1);
  });

  test("a server that accepts and stays silent, and a signal", async () => {
    const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    cleanups.push(() => listener.stop(true));
    const silent = `redis://127.0.0.1:${listener.port}`;
    expect(await rejection(RedisStore.connect(silent, { timeout: 80 }))).toMatchObject({ code: "CONNECT_TIMEOUT" });
    const signal = AbortSignal.timeout(50);
    const started = performance.now();
    expect(await rejection(RedisStore.connect(silent, { signal }))).toMatchObject({ name: "TimeoutError" });
    expect(performance.now() - started).toBeLessThan(2_000);
  });

  test("passwords and users", async () => {
    const guarded = await startServer({ args: ["--requirepass", "p w@1"] });
    const place = `127.0.0.1:${guarded.port}`;
    for (const wrong of [`redis://${place}`, `redis://:no@${place}`, `redis://nobody:no@${place}`]) {
      const error = await rejection(RedisStore.connect(wrong));
      expect(error).toBeInstanceOf(DistStoreError);
      expect(error).toMatchObject({ code: "AUTH_FAILED" });
      expect(error.message).toContain(place);
    }
    const store = await connect({}, `redis://:p%20w%401@${place}`);
    const waiting = store.get("k");
    await Bun.sleep(20);
    await store.set("k", "v");
    expect(text(await waiting)).toBe("v");
  });

  test("a database that does not exist", async () => {
    expect(await rejection(RedisStore.connect(`${url()}/99`))).toMatchObject({ code: "SERVER_REFUSED" });
  });

  test("rediss://", async () => {
    const folder = mkdtempSync(join(tmpdir(), "redis-tls-"));
    cleanups.push(() => rmSync(folder, { recursive: true }));
    const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
    const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
    const request = [
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:prime256v1",
      "-nodes",
      "-days",
      "2",
    ];
    const made = Bun.spawnSync(["openssl", ...request, "-keyout", key, "-out", cert, ...subject]);
    expect(made.exitCode).toBe(0);
    const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const { port } = listener;
    listener.stop(true);
    const files = ["--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert];
    await startServer({ args: ["--tls-port", String(port), "--tls-auth-clients", "no", ...files] });
    const secure = `rediss://localhost:${port}`;
    const store = await connect({ tls: { ca: readFileSync(cert, "utf8") } }, secure);
    const waiting = store.get("k");
    await Bun.sleep(20);
    await store.set("k", "v");
    expect(text(await waiting)).toBe("v");
    expect(await rejection(RedisStore.connect(secure, { timeout: 300 }))).toMatchObject({ code: "CONNECT_TIMEOUT" });
  });

  test("localAddress is the address that the server sees", async () => {
    expect((await connect()).localAddress).toBe("127.0.0.1");
    expect((await connect({}, `redis+unix://${server.socket}`)).localAddress).toBeUndefined();
  });
});

describe("a server that fails", () => {
  test("killed: what is pending rejects and names it; later calls reconnect", async () => {
    const first = await startServer();
    const { port } = first;
    const store = await connect({}, `redis://127.0.0.1:${port}`);
    const waiting = [rejection(store.get("absent")), rejection(store.queuePop("q")), rejection(store.wait(["a", "b"]))];
    await Bun.sleep(30);
    first.signal("SIGSTOP");
    const inFlight = [rejection(store.add("n", 1)), rejection(store.set("k", "v"))];
    await Bun.sleep(20);
    await first.stop();
    for (const error of await Promise.all([...waiting, ...inFlight])) {
      expect(error).toBeInstanceOf(DistNetworkError);
      expect(error).toMatchObject({ code: "CONNECTION_LOST", details: { host: "127.0.0.1", port } });
      expect(error.message).toContain(`127.0.0.1:${port}`);
    }
    // The server is down: a call tries until its own limit.
    const started = performance.now();
    expect(await rejection(store.set("k", "v", { timeout: 100 }))).toMatchObject({ code: "STORE_TIMEOUT" });
    expect(performance.now() - started).toBeLessThan(2_000);
    // It restarts while a call is trying, without its data.
    const later = store.add("n", 5);
    await Bun.sleep(50);
    await startServer({ port });
    expect(await later).toBe(5);
    const woken = store.get("late");
    await Bun.sleep(30);
    await store.set("late", "v");
    expect(text(await woken)).toBe("v");
  });

  test("stopped: calls end by time-out, signal or close", async () => {
    const own = await startServer();
    const store = await connect({}, `redis://127.0.0.1:${own.port}`);
    own.signal("SIGSTOP");
    const error = await rejection(store.set("k", "v", { timeout: 60 }));
    expect(error).toBeInstanceOf(DistTimeoutError);
    expect(error).toMatchObject({ code: "STORE_TIMEOUT", details: { op: "set", keys: ["k"], port: own.port } });
    const controller = new AbortController();
    const aborted = rejection(store.get("k", { signal: controller.signal }));
    await Bun.sleep(10);
    controller.abort(new Error("enough"));
    expect((await aborted).message).toBe("enough");
    const pending = rejection(store.add("n", 1));
    await store.close();
    expect(await pending).toMatchObject({ code: "STORE_CLOSED" });
  });

  test("only the connection for waits is lost: waits reject, and the next ones work", async () => {
    const store = await connect();
    const waiting = rejection(store.get("absent"));
    await Bun.sleep(30);
    const client = new Bun.RedisClient(url());
    cleanups.push(() => client.close());
    await client.send("CLIENT", ["KILL", "TYPE", "pubsub"]);
    expect(await waiting).toMatchObject({ code: "CONNECTION_LOST" });
    const next = store.get("k");
    await Bun.sleep(30);
    await store.set("k", "v");
    expect(text(await next)).toBe("v");
  });

  test("the server's owner kills all connections: what was written is kept, and calls work again", async () => {
    const store = await connect();
    await store.set("k", "v");
    const client = new Bun.RedisClient(url());
    cleanups.push(() => client.close());
    for (let round = 1; round <= 3; round++) {
      const waiting = rejection(store.get("absent"));
      await Bun.sleep(20);
      await client.send("CLIENT", ["KILL", "TYPE", "pubsub"]);
      await client.send("CLIENT", ["KILL", "TYPE", "normal", "SKIPME", "yes"]);
      expect(await waiting).toMatchObject({ code: "CONNECTION_LOST" });
      // A call on a connection that is dying may be lost, but never twice, and never counts twice.
      const sum = await store.add("n", 1).catch(() => store.add("n", 0));
      expect(sum).toBeWithin(0, round + 1);
      expect(text(await store.get("k"))).toBe("v");
    }
  });

  test("flushed scripts have no effect on calls", async () => {
    const store = await connect();
    await store.set("k", "v");
    const client = new Bun.RedisClient(url());
    cleanups.push(() => client.close());
    await client.send("SCRIPT", ["FLUSH"]);
    expect(text(await store.get("k"))).toBe("v");
  });

  test("out of memory: the server's message", async () => {
    const small = await startServer({ args: ["--maxmemory", "2mb", "--maxmemory-policy", "noeviction"] });
    const store = await connect({}, `redis://127.0.0.1:${small.port}`);
    const error = await rejection(
      (async () => {
        for (let i = 0; i < 20; i++) await store.set(`k${i}`, new Uint8Array(1 << 20));
      })(),
    );
    expect(error).toBeInstanceOf(DistStoreError);
    expect(error).toMatchObject({ code: "SERVER_REFUSED" });
    expect(error.message).toContain("OOM");
  });
});
