import { afterEach, expect, test } from "bun:test";
import { TCPStore } from "../client/tcp-store.ts";
import { TCPStoreServer } from "./server.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function listen(): Promise<TCPStoreServer> {
  const server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0 });
  cleanups.push(() => server.close());
  return server;
}

async function clients(server: TCPStoreServer, count: number): Promise<TCPStore[]> {
  const stores = await Promise.all(
    Array.from({ length: count }, () => TCPStore.connect({ host: "127.0.0.1", port: server.port, timeout: 10_000 })),
  );
  for (const store of stores) cleanups.push(() => store.close());
  return stores;
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

test("clients at a barrier have one connection each", async () => {
  const server = await listen();
  const stores = await clients(server, 20);
  const all = stores.slice(1).map((store) => store.barrier("b", 20));
  await Bun.sleep(20);
  expect(server.clients).toBe(20);
  await stores[0]?.barrier("b", 20);
  await Promise.all(all);
  expect(server.clients).toBe(20);
});

test("other calls of a client that waits at a barrier are served, and it counts once", async () => {
  const [a, b, c] = (await clients(await listen(), 3)) as [TCPStore, TCPStore, TCPStore];
  let through = false;
  const standing = a.barrier("b", 3).then(() => {
    through = true;
  });
  for (let i = 1; i <= 50; i++) expect(await a.add("n", 1)).toBe(i);
  const waiting = a.get("later");
  const second = b.barrier("b", 3);
  await a.set("later", "v");
  expect(text(await waiting)).toBe("v");
  expect(through).toBe(false);
  expect(text(await a.get("b"))).toBe("2");
  // It is released during other calls, one of which may have just cancelled its wait.
  const busy = Array.from({ length: 200 }, () => a.add("n", 1));
  await c.barrier("b", 3);
  await Promise.all([standing, second, ...busy]);
  expect(text(await a.get("b"))).toBe("3");
});

test("a barrier whose key is deleted and used again releases all clients each time", async () => {
  const [a, b] = (await clients(await listen(), 2)) as [TCPStore, TCPStore];
  for (let round = 0; round < 50; round++) {
    const standing = a.barrier("b", 2);
    const busy = Promise.all(Array.from({ length: 5 }, () => a.check(["b"])));
    await b.barrier("b", 2);
    await b.deleteKey("b");
    const again = b.barrier("b", 2);
    await Promise.all([standing, busy]);
    await a.barrier("b", 2);
    await again;
    await a.deleteKey("b");
  }
});

test("a client may wait at several barriers, and time out at one", async () => {
  const [a, b] = (await clients(await listen(), 2)) as [TCPStore, TCPStore];
  const late = a.barrier("never", 2, { timeout: 40 }).catch((error: unknown) => error);
  const keys = ["x", "y", "z"];
  const standing = keys.map((key) => a.barrier(key, 2));
  expect(await late).toMatchObject({ code: "STORE_TIMEOUT", details: { op: "barrier" } });
  for (const key of keys) await b.barrier(key, 2);
  await Promise.all(standing);
  await Promise.all([a.barrier("next", 2), b.barrier("next", 2)]);
});
