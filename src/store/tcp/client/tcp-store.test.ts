import { afterEach, describe, expect, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { DistNetworkError, DistTimeoutError, InvalidArgumentError } from "../../../errors/index.ts";
import { testStore } from "../../../testing/store-suite/store-suite.ts";
import { TCPStoreServer } from "../server/server.ts";
import { limits } from "../wire/protocol.ts";
import { CallCounters } from "./call-counters.ts";
import { TCPStore } from "./tcp-store.ts";
import type { TCPStoreOptions } from "./tcp-store-options.ts";

testStore("TCPStore", { open: () => TCPStore.connect({ host: "127.0.0.1", port: 0, isMaster: true }) });

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const storeModule = JSON.stringify(fileURLToPath(new URL("./tcp-store.ts", import.meta.url)));

async function connect(port: number, options: Partial<TCPStoreOptions> = {}): Promise<TCPStore> {
  const store = await TCPStore.connect({ host: "127.0.0.1", port, timeout: 10_000, ...options });
  cleanups.push(() => store.close());
  return store;
}

async function listen(): Promise<TCPStoreServer> {
  const server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0 });
  cleanups.push(() => server.close());
  return server;
}

/** Starts a Bun process with `code`; it is killed at the end of the test. */
function spawn(code: string, env: Record<string, string> = {}) {
  const child = Bun.spawn([process.execPath, "-e", `const { TCPStore } = await import(${storeModule});\n${code}`], {
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, NO_COLOR: "1", ...env },
  });
  cleanups.push(async () => {
    child.kill("SIGKILL");
    await child.exited;
  });
  return child;
}

/** The first line that a process prints. */
async function firstLine(stream: ReadableStream<Uint8Array>): Promise<string> {
  let seen = "";
  const decoder = new TextDecoder();
  for await (const chunk of stream) {
    seen += decoder.decode(chunk, { stream: true });
    if (seen.includes("\n")) break;
  }
  return seen.split("\n")[0] ?? "";
}

describe("connecting", () => {
  test("a time-out names host, port, the last failure and what to check", async () => {
    const free = await listen();
    await free.close();
    const started = performance.now();
    const error = await TCPStore.connect({ host: "127.0.0.1", port: free.port, timeout: 150 }).catch(
      (reason: unknown) => reason,
    );
    expect(performance.now() - started).toBeWithin(140, 1_500);
    expect(error).toBeInstanceOf(DistTimeoutError);
    expect(error).toMatchObject({ code: "CONNECT_TIMEOUT", details: { host: "127.0.0.1", port: free.port } });
    expect(String(error)).toContain(`127.0.0.1:${free.port}`);
    expect(String(error)).toContain("ECONNREFUSED");
    expect(String(error)).toContain("MASTER_ADDR");
  });

  test("waits for a server that starts later", async () => {
    const { port, close } = await listen().then((server) => ({ port: server.port, close: () => server.close() }));
    await close();
    const connecting = connect(port, { timeout: 5_000 });
    await Bun.sleep(100);
    const server = await TCPStoreServer.listen({ host: "127.0.0.1", port });
    cleanups.push(() => server.close());
    const store = await connecting;
    expect(await store.add("n", 1)).toBe(1);
  });

  test("tries all addresses of a name", async () => {
    const server = await listen();
    const store = await connect(server.port, { host: "localhost" });
    expect(store.host).toBe("localhost");
    expect(store.localAddress).toBe("127.0.0.1");
  });

  test("an unknown name is named", async () => {
    const connecting = TCPStore.connect({ host: "no-such-host.invalid", port: 1, timeout: 100 });
    await expect(connecting).rejects.toMatchObject({ code: "CONNECT_TIMEOUT" });
    await expect(connecting).rejects.toThrow("no-such-host.invalid:1");
  });

  test("a server that accepts and stays silent", async () => {
    const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    cleanups.push(() => listener.stop(true));
    const connecting = TCPStore.connect({ host: "127.0.0.1", port: listener.port, timeout: 100 });
    await expect(connecting).rejects.toMatchObject({ code: "CONNECT_TIMEOUT" });
    await expect(connecting).rejects.toThrow("did not answer the handshake");
  });

  test("an abort ends it", async () => {
    const controller = new AbortController();
    const connecting = TCPStore.connect({ host: "127.0.0.1", port: 1, signal: controller.signal });
    setTimeout(() => controller.abort(new Error("no more")), 50);
    await expect(connecting).rejects.toThrow("no more");
  });

  test("a port in use is named", async () => {
    const { port } = await listen();
    const connecting = TCPStore.connect({ host: "127.0.0.1", port, isMaster: true });
    await expect(connecting).rejects.toBeInstanceOf(DistNetworkError);
    await expect(connecting).rejects.toMatchObject({ code: "PORT_IN_USE" });
    await expect(connecting).rejects.toThrow(`127.0.0.1:${port}`);
  });

  test("bad options", async () => {
    const good = { host: "127.0.0.1", port: 1 };
    const bad: Partial<Record<keyof TCPStoreOptions, unknown>>[] = [
      { host: "" },
      { port: 65_536 },
      { port: 0 },
      { worldSize: 0 },
      { worldSize: 1.5 },
      { isMaster: 1 },
      { timeout: 0 },
    ];
    for (const options of bad) {
      const connecting = TCPStore.connect({ ...good, ...options } as TCPStoreOptions);
      await expect(connecting).rejects.toBeInstanceOf(InvalidArgumentError);
    }
  });
});

describe("hosting", () => {
  test("the master waits for the workers, the workers do not wait", async () => {
    const hosting = TCPStore.connect({ host: "127.0.0.1", port: 0, isMaster: true, worldSize: 1 });
    const alone = await hosting;
    cleanups.push(() => alone.close());
    expect(await alone.numKeys()).toBe(1);
    expect(await alone.listKeys()).toEqual([]);

    const server = await listen();
    await connect(server.port, { worldSize: 3 });
    const { port } = server;
    await server.close();
    const master = TCPStore.connect({ host: "127.0.0.1", port, isMaster: true, worldSize: 2, timeout: 5_000 });
    let joined = false;
    void master.then(() => {
      joined = true;
    });
    await Bun.sleep(50);
    expect(joined).toBe(false);
    await connect(port, { worldSize: 2 });
    cleanups.push((await master).close.bind(await master));
  });

  test("a master that times out reports how many joined", async () => {
    const master = TCPStore.connect({ host: "127.0.0.1", port: 0, isMaster: true, worldSize: 3, timeout: 1_000 });
    await expect(master).rejects.toBeInstanceOf(DistTimeoutError);
    await expect(master).rejects.toThrow("Timed out after 1 seconds waiting for clients. 1/3 clients joined.");
  });

  test("waitForWorkers: false and a negative world size do not wait", async () => {
    for (const options of [{ worldSize: 5, waitForWorkers: false }, { worldSize: -1 }]) {
      const store = await connect(0, { isMaster: true, ...options });
      expect(await store.numKeys()).toBe(0);
    }
  });

  test("tenants share a server, which ends with the last", async () => {
    const { port, close } = await listen().then((server) => ({ port: server.port, close: () => server.close() }));
    await close();
    const [a, b] = await Promise.all([1, 2].map(() => connect(port, { isMaster: true, multiTenant: true })));
    await a?.set("k", "v");
    await a?.close();
    expect(text((await b?.get("k")) ?? new Uint8Array())).toBe("v");
    await b?.close();
    await expect(TCPStore.connect({ host: "127.0.0.1", port, timeout: 50 })).rejects.toBeInstanceOf(DistTimeoutError);
  });

  test("tenants also share a server that has a free port", async () => {
    const first = await connect(0, { isMaster: true, multiTenant: true });
    const second = await connect(first.port, { isMaster: true, multiTenant: true });
    const other = await connect(0, { isMaster: true, multiTenant: true });
    await first.set("k", "v");
    await first.close();
    expect(text(await second.get("k"))).toBe("v");
    expect(other.port).not.toBe(second.port);
    expect(await other.check(["k"])).toBe(false);
  });

  test("a server that drains refuses clients, and the next one can have its port", async () => {
    const first = await connect(0, { isMaster: true });
    const { port } = first;
    const client = await connect(port);
    const closing = first.close({ drainTimeout: 10_000 });
    const second = await connect(port, { isMaster: true });
    await second.set("k", "second");
    const late = await connect(port);
    expect(text(await late.get("k"))).toBe("second");
    // The old one still serves those that it has, also calls that use a separate connection.
    const waiting = [client.get("late"), client.wait(["late", "later"]), client.barrier("b", 1)];
    await client.set("late", "1");
    await client.set("later", "1");
    await Promise.all(waiting);
    await client.close();
    await closing;
  });

  test("a port that another process releases in time is waited for", async () => {
    const holder = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const waiting = connect(holder.port, { isMaster: true });
    await Bun.sleep(150);
    holder.stop(true);
    expect((await waiting).isHost).toBe(true);
  });

  test("under a launcher that hosts the store the master is a client", async () => {
    const server = await listen();
    const child = spawn(
      `const store = await TCPStore.connect({ host: "127.0.0.1", port: ${server.port}, isMaster: true, worldSize: 2 });
       await store.set("k", String(store.isHost)); await store.add("n", 1);`,
      { TORCHELASTIC_USE_AGENT_STORE: "True", MASTER_PORT: String(server.port) },
    );
    expect(await child.exited).toBe(0);
    const store = await connect(server.port);
    expect(text(await store.get("k"))).toBe("false");
  });

  test("the master adopts a listening socket, whose port must be the given one", async () => {
    const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    cleanups.push(() => listener.stop(true));
    const { fd } = listener as typeof listener & { fd: number };
    const options = { host: "127.0.0.1", isMaster: true, masterListenFd: fd };
    await expect(TCPStore.connect({ ...options, port: 1 })).rejects.toThrow(
      `listen fd ${fd} is bound to port ${listener.port}, expected to be bound to port 1`,
    );
    const child = Bun.spawn(
      [
        process.execPath,
        "-e",
        `const { TCPStore } = await import(${storeModule});
         const options = { host: "127.0.0.1", port: ${listener.port}, isMaster: true, masterListenFd: 3 };
         const store = await TCPStore.connect(options);
         await store.set("port", String(store.port));
         console.log("ready");
         await store.get("end");`,
      ],
      { stdio: ["ignore", "pipe", "inherit", fd] },
    );
    cleanups.push(() => child.kill("SIGKILL"));
    // Only the child must accept connections.
    listener.stop(true);
    expect(await firstLine(child.stdout)).toBe("ready");
    const store = await connect(listener.port);
    expect(text(await store.get("port"))).toBe(String(listener.port));
    await store.set("end", "1");
    expect(await child.exited).toBe(0);
  });

  test("close can wait until the others have disconnected", async () => {
    const host = await connect(0, { isMaster: true });
    const client = await connect(host.port);
    await client.set("k", "v");
    const started = performance.now();
    setTimeout(() => void client.close(), 80);
    await host.close({ drainTimeout: 5_000 });
    expect(performance.now() - started).toBeWithin(70, 2_000);
  });

  test("the server answers while the main thread of its process is blocked", async () => {
    const child = spawn(`
      const store = await TCPStore.connect({ host: "127.0.0.1", port: 0, isMaster: true });
      await store.set("here", "1");
      console.log(store.port);
      Bun.sleepSync(2000);
      await store.set("awake", "1");
      await store.get("client is done");
    `);
    const store = await connect(Number(await firstLine(child.stdout)));
    const blockedUntil = performance.now() + 1_500;
    let slowest = 0;
    for (let calls = 0; calls < 50; calls++) {
      const started = performance.now();
      expect(text(await store.get("here"))).toBe("1");
      slowest = Math.max(slowest, performance.now() - started);
      await Bun.sleep(5);
    }
    expect(performance.now()).toBeLessThan(blockedUntil);
    expect(await store.check(["awake"])).toBe(false);
    // A server that needed the main thread would take the rest of its two seconds.
    expect(slowest).toBeLessThan(500);
    await store.get("awake");
    await store.set("client is done", "1");
    expect(await child.exited).toBe(0);
  });
});

describe("client counters", () => {
  test("count the calls of each op and measure their time", async () => {
    const store = await connect(0, { isMaster: true, worldSize: 1 });
    await Promise.all(Array.from({ length: 20 }, (_, i) => store.set(`k${i}`, "v")));
    for (let i = 0; i < 3; i++) await store.get("absent", { timeout: 10 + 40 * i }).catch(() => {});
    await expect(store.add("k0", 1)).rejects.toThrow();
    await Promise.all([store.check([]), store.deleteKey("k1"), store.compareSet("k2", "v", "w")]);
    await Promise.all([
      store.append("k2", "x"),
      store.multiSet(["a"], ["b"]),
      store.multiGet(["a"]),
      store.wait(["a"]),
    ]);
    await Promise.all([store.queuePush("q", "e"), store.queuePop("q"), store.queueLen("q"), store.listKeys()]);
    await Promise.all([store.numKeys(), store.barrier("b", 1)]);
    const counters = store.collectClientCounters();
    const counts = Object.fromEntries(Object.entries(counters).map(([op, { count }]) => [op, count]));
    const once = [
      "check",
      "deleteKey",
      "compareSet",
      "append",
      "multiSet",
      "multiGet",
      "wait",
      "queuePush",
      "queuePop",
    ];
    for (const op of [...once, "add", "queueLen", "listKeys", "numKeys", "barrier", "waitForWorkers"]) {
      expect([op, counts[op]]).toEqual([op, 1]);
      expect(counters[op]?.sampleVariance).toBe(0);
    }
    expect(counts).toMatchObject({ set: 20, get: 3 });
    expect(Object.keys(counts)).toHaveLength(17);
    // Waits of about 10, 50 and 90 ms: mean 50, variance 1600.
    expect(counters.get?.mean).toBeWithin(48, 80);
    expect(counters.get?.sampleVariance).toBeWithin(800, 4_000);
    expect(new CallCounters().collect()).toEqual({});
  });
});

describe("the process", () => {
  test("exits with idle stores, on client and host", async () => {
    const server = await listen();
    const started = performance.now();
    const child = spawn(`
      const host = await TCPStore.connect({ host: "127.0.0.1", port: 0, isMaster: true });
      const client = await TCPStore.connect({ host: "127.0.0.1", port: ${server.port} });
      await host.set("a", "1"); await client.set("a", "1"); await client.get("a");
      await client.get("absent", { timeout: 20 }).catch(() => {});
      console.log("done");
    `);
    expect(await child.exited).toBe(0);
    expect(await new Response(child.stdout).text()).toBe("done\n");
    expect(performance.now() - started).toBeLessThan(3_000);
  });

  test("lives while a call is pending, without spinning", async () => {
    const server = await listen();
    const child = spawn(`
      const store = await TCPStore.connect({ host: "127.0.0.1", port: ${server.port} });
      await store.set("ready", "1");
      const before = process.cpuUsage();
      await store.get("late", { timeout: Infinity });
      const { user, system } = process.cpuUsage(before);
      console.log((user + system) / 1000);
    `);
    const store = await connect(server.port);
    await store.get("ready");
    await Bun.sleep(600);
    await store.set("late", "v");
    expect(await child.exited).toBe(0);
    const cpuMs = Number(await new Response(child.stdout).text());
    expect(cpuMs).toBeLessThan(100);
  });

  test("a call that is not awaited is still executed", async () => {
    const server = await listen();
    const child = spawn(`
      const store = await TCPStore.connect({ host: "127.0.0.1", port: ${server.port} });
      store.set("big", new Uint8Array(8 << 20));
      store.add("n", 7);
    `);
    expect(await child.exited).toBe(0);
    const store = await connect(server.port);
    expect(text(await store.get("n"))).toBe("7");
    expect(await store.get("big")).toHaveLength(8 << 20);
  });
});

describe("failures", () => {
  test("a lost connection rejects everything that is pending, and later calls", async () => {
    const server = await listen();
    const store = await connect(server.port);
    const pending = [store.get("a"), store.wait(["b"]), store.queuePop("c"), store.barrier("d", 2)];
    const settled = Promise.allSettled(pending);
    await Bun.sleep(50);
    await server.close();
    for (const result of await settled) {
      expect(result.status).toBe("rejected");
      const { reason } = result as PromiseRejectedResult;
      expect(reason).toBeInstanceOf(DistNetworkError);
      expect(reason.details).toMatchObject({ host: "127.0.0.1", port: server.port });
      expect(reason.message).toContain(`127.0.0.1:${server.port}`);
    }
    const later = store.add("n", 1);
    await expect(later).rejects.toMatchObject({ code: "CONNECTION_LOST", details: { op: "add" } });
    await expect(later).rejects.toThrow(`127.0.0.1:${server.port}`);
  });

  test("a stopped server: every call ends by its time-out", async () => {
    const child = spawn(`
      const store = await TCPStore.connect({ host: "127.0.0.1", port: 0, isMaster: true });
      console.log(store.port);
      await store.get("never");
    `);
    const port = Number(await firstLine(child.stdout));
    const store = await connect(port);
    await store.set("k", "v");
    expect(text(await store.get("k"))).toBe("v");
    child.kill("SIGSTOP");
    const started = performance.now();
    const limit = { timeout: 200 };
    const calls = [
      store.get("k", limit),
      store.add("n", 1, limit),
      store.check(["k"], limit),
      store.wait(["k", "l"], limit),
      store.barrier("b", 2, limit),
      store.set("big", new Uint8Array(8 << 20), limit),
    ];
    for (const result of await Promise.allSettled(calls)) {
      expect(result).toMatchObject({ status: "rejected", reason: { name: "DistTimeoutError" } });
      expect((result as PromiseRejectedResult).reason.message).toContain(`127.0.0.1:${port}`);
    }
    expect(performance.now() - started).toBeLessThan(1_200);
    child.kill("SIGCONT");
    expect(text(await store.get("k", { timeout: 5_000 }))).toBe("v");
  });

  test("replies that arrive after the call has ended do no harm, and count once", async () => {
    const child = spawn(`
      const store = await TCPStore.connect({ host: "127.0.0.1", port: 0, isMaster: true });
      await store.multiSet(["text", "empty"], ["x", ""]);
      for (const limit of [{ timeout: 1e-3 }, { signal: AbortSignal.abort(new Error("enough")) }]) {
        const calls = [store.get("empty", limit), store.get("absent", limit), store.add("text", 1, limit),
          store.multiGet(["empty", "absent"], limit), store.multiGet(["text"], limit)];
        Bun.sleepSync(20);
        await Promise.allSettled(calls);
      }
      await Bun.sleep(50);
      const { get, add, multiGet } = store.collectClientCounters();
      console.log(get.count, add.count, multiGet.count, await store.numKeys());
      await store.close();
    `);
    expect(await child.exited).toBe(0);
    expect(await new Response(child.stdout).text()).toBe("4 2 4 2\n");
    expect(await new Response(child.stderr).text()).toBe("");
  });

  test("what the server would refuse is refused before it is sent", async () => {
    const store = await connect((await listen()).port);
    const long = "k".repeat(limits.keyBytes);
    const calls = [
      () => store.set(long, "v"),
      () => store.get(long),
      () => store.check(["a", long]),
      () => store.set("k", new Uint8Array(limits.valueBytes + 1)),
      () => store.wait(Array.from({ length: limits.keys + 1 }, () => "k")),
      () => store.set("ä".repeat(limits.keyBytes / 2), "v"),
    ];
    for (const call of calls) await expect(call()).rejects.toBeInstanceOf(InvalidArgumentError);
    await store.set(long.slice(1), new Uint8Array(limits.valueBytes));
    expect(await store.get(long.slice(1))).toHaveLength(limits.valueBytes);
    expect(await store.add("n", 1)).toBe(1);
  });

  test("a barrier completes however much a client waits for", async () => {
    const host = await connect(0, { isMaster: true });
    const other = await connect(host.port);
    const waits = Array.from({ length: 40 }, (_, i) => host.get(`late/${i}`));
    await Bun.sleep(100);
    const barriers = ["a", "b"].flatMap((key) => [host, other].map((store) => store.barrier(key, 2)));
    await Promise.all(barriers);
    await other.multiSet(
      waits.map((_, i) => `late/${i}`),
      waits.map((_, i) => String(i)),
    );
    expect((await Promise.all(waits)).map((value) => new TextDecoder().decode(value))).toEqual(
      waits.map((_, i) => String(i)),
    );
  });

  test("two clients that wait for each other's keys", async () => {
    const { port } = await listen();
    const [a, b] = [await connect(port), await connect(port)];
    for (let i = 0; i < 50; i++) {
      const [fromB, fromA] = await Promise.all([
        a.set(`a${i}`, "A").then(() => a.get(`b${i}`)),
        b.get(`a${i}`).then(async (value) => {
          await b.set(`b${i}`, "B");
          return value;
        }),
      ]);
      expect([text(fromB), text(fromA)]).toEqual(["B", "A"]);
    }
  });

  test("waits that time out just as their keys are set stay in step", async () => {
    const { port } = await listen();
    const [waiter, setter] = [await connect(port), await connect(port)];
    let arrived = 0;
    for (let i = 0; i < 60; i++) {
      const waiting = waiter.get(`k${i}`, { timeout: 4 }).then(
        (value) => expect(text(value)).toBe(String(i)) ?? arrived++,
        (error: unknown) => expect(error).toBeInstanceOf(DistTimeoutError),
      );
      await Bun.sleep(i % 8);
      await setter.set(`k${i}`, String(i));
      await waiting;
      expect(await waiter.add("n", 1)).toBe(i + 1);
      expect(text(await waiter.get(`k${i}`))).toBe(String(i));
    }
  });
});
