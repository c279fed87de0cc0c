import { afterEach, describe, expect, test } from "bun:test";
import * as dist from "../index.ts";
import { localRanks } from "../testing/index.ts";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const ping = async (url: string) => (await fetch(`${url}/handler/ping`, { method: "POST" })).text();

const names = ["RANK", "MASTER_ADDR", "MASTER_PORT", "TORCH_WORKER_SERVER_SOCKET"] as const;
const before = names.map((name) => process.env[name]);
afterEach(() => {
  names.forEach((name, i) => {
    if (before[i] === undefined) delete process.env[name];
    else process.env[name] = before[i];
  });
});

describe("startDebugServer", () => {
  test("announces the rank in the store where PyTorch's front end looks", async () => {
    const store = new dist.HashStore();
    const server = await dist.startDebugServer({ store, rank: 3 });
    const url = text(await store.get("debug_server/rank3"));
    expect(url).toBe(server.url);
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/[\w-]{32}$/);
    expect(await ping(url)).toBe("pong");
    await expect(dist.startDebugServer({ store, rank: 3 })).rejects.toThrow("debug server already started");
    dist.stopDebugServer();
    await expect(ping(url)).rejects.toThrow();
    // The front end must not wait for a rank that has left.
    expect(await store.check(["debug_server/rank3"])).toBe(true);
    expect(() => dist.stopDebugServer()).toThrow("debug server is not started");
  });

  test("by the environment, as a launcher sets it", async () => {
    await using server = await dist.TCPStoreServer.listen({ host: "127.0.0.1", port: 0, secret: null });
    process.env.RANK = "1";
    process.env.MASTER_ADDR = "127.0.0.1";
    process.env.MASTER_PORT = String(server.port);
    const { url } = await dist.startDebugServer();
    await using store = await dist.TCPStore.connect({ host: "127.0.0.1", port: server.port, isMaster: false });
    expect(text(await store.get("debug_server/rank1"))).toBe(url);
    dist.stopDebugServer();
  });

  test("several ranks in one process: each has a server, which knows the ops of its own groups", async () => {
    await localRanks(3, async ({ rank }) => {
      const own = await dist.startDebugServer();
      const all = await dist.allGatherObject(own.url);
      expect(new Set(all).size).toBe(3);
      const response = await fetch(`${all[(rank + 1) % 3]}/handler/fr_trace_json`, { method: "POST" });
      expect(await response.json()).toMatchObject({ bun_c10d: { rank: (rank + 1) % 3 }, entries: { length: 1 } });
      await dist.barrier();
      dist.stopDebugServer();
    });
  });

  test("a server that was disposed of can be started again", async () => {
    const options = { store: new dist.HashStore(), rank: 0 };
    {
      await using server = await dist.startDebugServer(options);
      expect(server.isOpen).toBe(true);
    }
    expect(() => dist.stopDebugServer()).toThrow("not started");
    await dist.startDebugServer(options);
    dist.stopDebugServer();
  });

  test("a rank that cannot announce itself has no server", async () => {
    class Broken extends dist.HashStore {
      override set(): Promise<void> {
        return Promise.reject(new dist.DistStoreError("the disk is full"));
      }
    }
    const token = "t".repeat(30);
    await expect(dist.startDebugServer({ store: new Broken(), rank: 0, token })).rejects.toThrow("the disk is full");
    // It may be started again.
    await dist.startDebugServer({ store: new dist.HashStore(), rank: 0, token });
    dist.stopDebugServer();
  });

  test.each<[string, unknown, string]>([
    ["no rank", { store: new dist.HashStore() }, "the rank is not known"],
    ["a negative rank", { store: new dist.HashStore(), rank: -1 }, "the rank is not known"],
    ["no store", { rank: 0 }, "there is no store"],
    ["options that are no object", 5, "options"],
  ])("refuses %s", async (_, options, message) => {
    for (const name of names) delete process.env[name];
    const error = await dist.startDebugServer(options as never).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(dist.InvalidArgumentError);
    expect((error as Error).message).toContain(message);
    expect(() => dist.stopDebugServer()).toThrow("not started");
  });
});

describe("workerMain", () => {
  const path = `${process.env.TMPDIR ?? "/tmp"}/c10d-worker-${process.pid}.sock`;
  const ask = (name: string) => fetch(`http://localhost/handler/${name}`, { method: "POST", unix: path });

  test("serves the socket of TORCH_WORKER_SERVER_SOCKET while the main function runs", async () => {
    process.env.TORCH_WORKER_SERVER_SOCKET = path;
    expect(await dist.workerMain(async () => (await ask("ping")).text())).toBe("pong");
    await expect(ask("ping")).rejects.toThrow();
    await expect(dist.workerMain(() => Promise.reject(new Error("of main")))).rejects.toThrow("of main");
    expect(await dist.workerMain(async () => (await ask("ping")).text())).toBe("pong");
  });

  test("without it, only the main function runs", async () => {
    delete process.env.TORCH_WORKER_SERVER_SOCKET;
    expect(await dist.workerMain(() => Bun.file(path).exists())).toBe(false);
  });
});
