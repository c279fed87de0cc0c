import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { DistNetworkError, DistTimeoutError, QueueEmptyError } from "../../src/errors/index.ts";
import { TCPStore, type TCPStoreOptions, TCPStoreServer, type TCPStoreServerOptions } from "../../src/store/index.ts";
import { Relay } from "../../src/store/tcp/fixtures/relay.ts";
import { PythonError, PythonPeer, type PythonStore, type PythonStoreOptions } from "./python-store.ts";
import { describeWithTorch } from "./torch.ts";

setDefaultTimeout(60_000);

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

/** A client of either kind. */
type Client = TCPStore | PythonStore;
type Kind = "Bun" | "Python";
type ServerKind = "ours" | "libuv" | "legacy";

describeWithTorch("TCPStore with PyTorch", (python) => {
  let peers: readonly [PythonPeer, PythonPeer];
  const cleanups: (() => unknown)[] = [];

  beforeAll(async () => {
    peers = await Promise.all([PythonPeer.start(python), PythonPeer.start(python)]);
  });
  afterAll(() => Promise.all(peers.map((peer) => peer[Symbol.asyncDispose]())));
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  });

  async function openPython(options: PythonStoreOptions, peer = peers[0]): Promise<PythonStore> {
    const store = await peer.open(options);
    cleanups.push(() => store.close());
    return store;
  }

  async function openBun(options: Partial<TCPStoreOptions> & { readonly port: number }): Promise<TCPStore> {
    const store = await TCPStore.connect({ host: "127.0.0.1", timeout: 10_000, secret: null, ...options });
    cleanups.push(() => store.close());
    return store;
  }

  async function listen(options: Partial<TCPStoreServerOptions> = {}): Promise<TCPStoreServer> {
    const server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0, secret: null, ...options });
    cleanups.push(() => server.close());
    return server;
  }

  async function serve(kind: ServerKind): Promise<number> {
    if (kind === "ours") return (await listen()).port;
    const master = { port: 0, isMaster: true, waitForWorkers: false, useLibuv: kind === "libuv" };
    // Not the process whose clients block in the test.
    return (await openPython(master, peers[1])).port;
  }

  const open = (kind: Kind, port: number): Promise<Client> =>
    kind === "Bun" ? openBun({ port }) : openPython({ port });

  /** All ops, with two clients that see each other's effects. */
  async function useAllOps(a: Client, b: Client, queues: boolean): Promise<void> {
    await a.set("k", "größe");
    expect(text(await b.get("k"))).toBe("größe");
    const bytes = Uint8Array.from({ length: 70_000 }, (_, i) => i % 251);
    await b.set("bytes", bytes);
    expect(Buffer.compare(await a.get("bytes"), bytes)).toBe(0);

    expect(await a.add("n", 40)).toBe(40);
    expect(await b.add("n", -42)).toBe(-2);
    expect(await a.add("n", 2 ** 53 - 1)).toBe(2 ** 53 - 3);
    expect(text(await b.get("n"))).toBe(String(2 ** 53 - 3));

    expect(await a.check(["k", "n"])).toBe(true);
    expect(await b.check(["k", "absent"])).toBe(false);
    expect(await b.check([])).toBe(true);

    expect(text(await a.compareSet("c", "", "1"))).toBe("1");
    expect(text(await b.compareSet("c", "1", "2"))).toBe("2");
    expect(text(await a.compareSet("c", "1", "3"))).toBe("2");
    expect(text(await b.compareSet("absent", "expected", "3"))).toBe("expected");
    expect(await a.check(["absent"])).toBe(false);

    // An append has no reply: the reply to the next call on the same connection shows that it was executed.
    await a.append("c", "+");
    expect(text(await a.get("c"))).toBe("2+");
    await b.append("c", "-");
    expect(text(await b.get("c"))).toBe("2+-");
    await a.append("new", "x");
    await a.multiSet(["m1", "m2"], ["1", ""]);
    expect((await b.multiGet(["m2", "m1", "new"])).map(text)).toEqual(["", "1", "x"]);

    await b.wait(["m1", "m1", "c"]);
    const waiting = b.get("later");
    await Bun.sleep(20);
    await a.set("later", "now");
    expect(text(await waiting)).toBe("now");
    const many = a.multiGet(["l1", "l2"]);
    await Bun.sleep(20);
    await b.add("l1", 1);
    await b.append("l2", "2");
    expect((await many).map(text)).toEqual(["1", "2"]);

    expect(await a.deleteKey("new")).toBe(true);
    expect(await b.deleteKey("new")).toBe(false);
    const keys = ["bytes", "c", "k", "l1", "l2", "later", "m1", "m2", "n"];
    expect((await a.listKeys()).sort()).toEqual(keys);
    expect((await b.listKeys()).sort()).toEqual(keys);
    expect([await a.numKeys(), await b.numKeys()]).toEqual([keys.length, keys.length]);

    await Promise.all([a.barrier("barrier", 2), Bun.sleep(20).then(() => b.barrier("barrier", 2))]);
    await expect(a.barrier("alone", 2, { timeout: 60 })).rejects.toThrow();

    if (!queues) return;
    await a.queuePush("q", "1");
    expect(await a.queueLen("q")).toBe(1);
    await b.queuePush("q", "2");
    expect([await b.queueLen("q"), await a.queueLen("q")]).toEqual([2, 2]);
    expect(text(await b.queuePop("q"))).toBe("1");
    expect(text(await a.queuePop("q", { block: false }))).toBe("2");
    for (const client of [a, b]) {
      const error: unknown = await client.queuePop("q", { block: false }).catch((reason: unknown) => reason);
      if (error instanceof PythonError) expect(error.type).toBe("QueueEmptyError");
      else expect(error).toBeInstanceOf(QueueEmptyError);
    }
    const popped = a.queuePop("q");
    await Bun.sleep(20);
    // PyTorch's queuePop blocks the whole interpreter, so only our client can push to a Python client of that process.
    if (b instanceof TCPStore || a instanceof TCPStore) await b.queuePush("q", "3");
    else await openBun({ port: a.port }).then((bun) => bun.queuePush("q", "3"));
    expect(text(await popped)).toBe("3");
  }

  /** A wait that times out, after which the client stays usable. */
  async function timeOut(client: Client, setter: Client): Promise<void> {
    client.setTimeout(60);
    for (const call of [() => client.get("no"), () => client.wait(["k", "no"], { timeout: 50 })]) {
      const started = performance.now();
      const error: unknown = await call().catch((reason: unknown) => reason);
      expect(performance.now() - started).toBeWithin(40, 2_000);
      if (error instanceof PythonError) expect(error.type).toBe("DistStoreError");
      else expect(error).toBeInstanceOf(DistTimeoutError);
      expect(String(error)).toMatch(/\bno\b/);
    }
    await client.setTimeout(10_000);
    await setter.set("no", "yes");
    expect(text(await client.get("no"))).toBe("yes");
    expect(await client.add("after", 1)).toBe(1);
  }

  /** Waits that time out just when their key arrives: whichever wins, the stream stays in sync. */
  async function race(client: Client, setter: Client): Promise<void> {
    let arrived = 0;
    const rounds = 60;
    for (let i = 0; i < rounds; i++) {
      const waiting = client.wait([`race ${i}`], { timeout: 8 }).then(
        () => arrived++,
        () => {},
      );
      await Bun.sleep(4 + (i % 8));
      await setter.set(`race ${i}`, String(i));
      await waiting;
      expect(await client.add("races", 1)).toBe(i + 1);
      expect(text(await client.get(`race ${i}`))).toBe(String(i));
    }
    expect(arrived).toBeGreaterThan(0);
  }

  const pairs: readonly (readonly [server: ServerKind, a: Kind, b: Kind])[] = [
    ["ours", "Python", "Bun"],
    ["ours", "Bun", "Python"],
    ["ours", "Python", "Python"],
    ["libuv", "Bun", "Bun"],
    ["libuv", "Bun", "Python"],
    ["libuv", "Python", "Bun"],
    ["legacy", "Bun", "Bun"],
    ["legacy", "Bun", "Python"],
    ["legacy", "Python", "Bun"],
  ];

  describe.each(pairs)("%s server, %s and %s", (server, kindA, kindB) => {
    async function both(): Promise<readonly [Client, Client]> {
      const port = await serve(server);
      return [await open(kindA, port), await open(kindB, port)];
    }

    test("all ops", async () => {
      const [a, b] = await both();
      await useAllOps(a, b, server !== "legacy");
    });

    test("waits that time out", async () => {
      const [a, b] = await both();
      await timeOut(a, b);
    });

    test("time-outs that race with the arrival", async () => {
      const [a, b] = await both();
      await race(a, b);
    });
  });

  test("queues of the legacy server: our client reports that the server disconnected", async () => {
    const store = await openBun({ port: await serve("legacy") });
    await expect(store.queueLen("q")).rejects.toBeInstanceOf(DistNetworkError);
  });

  test.each<ServerKind>(["ours", "libuv", "legacy"])(
    "8 clients of both kinds at once on the server %s",
    async (server) => {
      const port = await serve(server);
      const rounds = 100;
      const bun = async (me: number): Promise<number[]> => {
        const store = await openBun({ port });
        const sums: number[] = [];
        for (let i = 0; i < rounds; i++) {
          sums.push(await store.add("shared", 1));
          await store.append("log", String(me));
          await store.set(`of ${me}/${i}`, String(i));
          expect(text(await store.get(`of ${(me + 1) % 8}/${i}`))).toBe(String(i));
        }
        await store.barrier("all", 8);
        return sums;
      };
      const inPython = async (me: number): Promise<number[]> => {
        const store = await openPython({ port }, peers[server === "ours" ? me % 2 : 0]);
        const calls = Array.from({ length: rounds }, (_, i) => [
          ["add", "shared", 1],
          ["append", "log", String(me)],
          ["set", `of ${me}/${i}`, String(i)],
          ["get", `of ${(me + 1) % 8}/${i}`],
        ]).flat();
        const results = await store.script([...calls, ["barrier", "all", 8, 10_000]]);
        results.forEach((result, i) => {
          if (i % 4 === 3) expect(text(result as Uint8Array)).toBe(String((i - 3) / 4));
        });
        return results.filter((_, i) => i % 4 === 0 && i < calls.length) as number[];
      };
      const sums = await Promise.all(Array.from({ length: 8 }, (_, me) => (me % 2 === 0 ? bun(me) : inPython(me))));
      // Every sum was seen once, by one client.
      expect(sums.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: 8 * rounds }, (_, i) => i + 1));
      const log = text(await (await openBun({ port })).get("log"));
      for (let me = 0; me < 8; me++) expect(log.split(String(me)).length - 1).toBe(rounds);
    },
  );

  describe("joining", () => {
    test.each(["libuv", "legacy"])("our clients a job whose rank 0 is Python (%s)", async (server) => {
      const port = await freePort();
      const hosting = openPython({ port, isMaster: true, worldSize: 3, useLibuv: server === "libuv" });
      const clients = await Promise.all([1, 2].map(() => openBun({ port, worldSize: 3 })));
      const master = await hosting;
      await master.set("k", "v");
      for (const client of clients) expect(text(await client.get("k"))).toBe("v");
      // "init/" is counted, but is not a client's key.
      expect(await clients[0]?.numKeys()).toBe(2);
      expect(await clients[0]?.listKeys()).toEqual(["k"]);
    });

    test("Python's clients a job whose rank 0 is ours", async () => {
      const port = await freePort();
      const hosting = openBun({ port, isMaster: true, worldSize: 3 });
      const clients = await Promise.all(peers.map((peer) => openPython({ port, worldSize: 3 }, peer)));
      const master = await hosting;
      await master.set("k", "v");
      for (const client of clients) expect(text(await client.get("k"))).toBe("v");
      expect(await clients[0]?.numKeys()).toBe(2);
      expect(await clients[0]?.listKeys()).toEqual(["k"]);
    });

    test("a master times out when a client does not join", async () => {
      const hosting = openBun({ port: 0, isMaster: true, worldSize: 3, timeout: 300 });
      await expect(hosting).rejects.toThrow("1/3 clients joined");
    });
  });

  describe("a connection that breaks", () => {
    test.each<ServerKind>(["libuv", "legacy", "ours"])(
      "is reopened to the same server, which is recognised (%s)",
      async (kind) => {
        const port = await serve(kind);
        using relay = new Relay(port);
        const store = await openBun({ port: relay.port, worldSize: 1 });
        const direct = await openPython({ port });
        expect(await store.add("n", 1)).toBe(1);
        const waiting = [store.get("later"), store.multiGet(["later", "l2"])];
        await Bun.sleep(30);
        relay.cut();
        await Bun.sleep(30);
        expect(await store.add("n", 1)).toBe(2);
        await direct.set("later", "now");
        await direct.set("l2", "2");
        expect((await Promise.all(waiting)).flat().map(text)).toEqual(["now", "now", "2"]);

        relay.holding = "replies";
        const adding = store.add("n", 1).catch((error: unknown) => error);
        await Bun.sleep(30);
        relay.holding = "nothing";
        relay.cut();
        expect(await adding).toMatchObject({ code: "OUTCOME_UNKNOWN", details: { op: "add", keys: ["n"] } });
        expect(text(await store.get("n"))).toBe("3");

        relay.target = await serve(kind);
        relay.cut();
        await expect(store.get("n")).rejects.toMatchObject({ code: "SERVER_RESTARTED" });
        await expect(store.add("n", 1)).rejects.toMatchObject({ code: "SERVER_RESTARTED" });
      },
    );

    test.each<ServerKind>(["libuv", "legacy"])(
      "is not reopened by a client that PyTorch's server has not counted (%s)",
      async (kind) => {
        using relay = new Relay(await serve(kind));
        const store = await openBun({ port: relay.port });
        const pending = store.get("absent").catch((error: unknown) => error);
        await Bun.sleep(20);
        relay.cut();
        expect(await pending).toMatchObject({ code: "CONNECTION_LOST" });
        await expect(store.numKeys()).rejects.toMatchObject({ code: "CONNECTION_LOST" });
      },
    );
  });

  describe("a secret", () => {
    test("keeps PyTorch's client out, and others are not disturbed", async () => {
      const codes: string[] = [];
      const server = await listen({ secret: "s", onDrop: (_, __, code) => codes.push(code) });
      const client = await openBun({ port: server.port, secret: "s" });
      const error: unknown = await openPython({ port: server.port, timeout: 1_000 }).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ type: "DistNetworkError" });
      expect(new Set(codes)).toEqual(new Set(["SECRET_REQUIRED"]));
      expect(await client.add("n", 1)).toBe(1);
      expect(server.clients).toBe(1);
    });

    test.each<ServerKind>(["libuv", "legacy"])(
      "cannot be used with PyTorch's server (%s), and the error says so",
      async (server) => {
        const port = await serve(server);
        const started = performance.now();
        const connecting = openBun({ port, secret: "s", timeout: 60_000 });
        await expect(connecting).rejects.toMatchObject({ code: "SECRET_UNSUPPORTED" });
        expect(performance.now() - started).toBeLessThan(5_000);
        // The server still works.
        expect(await (await openBun({ port })).add("n", 1)).toBe(1);
      },
    );
  });
});

/** A port that was free just now. */
async function freePort(): Promise<number> {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}
