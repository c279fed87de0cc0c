import { afterEach, expect, test } from "bun:test";
import { type DistError, DistNetworkError, DistTimeoutError } from "../../../errors/index.ts";
import { TCPStore } from "../client/tcp-store.ts";
import type { TCPStoreOptions } from "../client/tcp-store-options.ts";
import { type Exchange, ScriptedServer } from "../fixtures/scripted-server.ts";

/** Tests against a scripted PyTorch server: what the client sends must be PyTorch's bytes. */

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function play(script: readonly Exchange[], options: Partial<TCPStoreOptions> = {}) {
  const server = new ScriptedServer(script);
  cleanups.push(() => server.close());
  const store = await TCPStore.connect({ host: "127.0.0.1", port: server.port, ...options });
  cleanups.push(() => store.close());
  return { server, store };
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const d1d1 = "06 0200000000000000 0300000000000000 2f6431 0300000000000000 2f6431";

test("the captured conversation", async () => {
  const { server, store } = await play(
    [
      ["04 0500000000000000 696e69742f 0100000000000000", "0100000000000000"],
      ["01 0200000000000000 2f61 0100000000000000 31", ""],
      ["06 0100000000000000 0200000000000000 2f61", "00"],
      ["03 0200000000000000 2f61", "0100000000000000 31"],
      ["05 0000000000000000", "00"],
      [d1d1, ""],
      ["0c", "01"],
      ["0e 0200000000000000 2f71 0100000000000000 78", ""],
      ["10 0200000000000000 2f71", "0100000000000000"],
      ["0f 0200000000000000 2f71", "0100000000000000 0100000000000000 78"],
      ["0f 0200000000000000 2f71", "0000000000000000"],
      ["11", "0200000000000000 0200000000000000 2f61 0500000000000000 696e69742f"],
      ["04 0200000000000000 2f6e feffffffffffffff", "feffffffffffffff"],
      ["02 0200000000000000 2f61 0100000000000000 31 0100000000000000 32", "0100000000000000 32"],
      ["09 0200000000000000 2f61 0100000000000000 33", ""],
      ["0b 0200000000000000 0200000000000000 2f62 0100000000000000 34 0200000000000000 2f63 0000000000000000", ""],
      ["06 0200000000000000 0200000000000000 2f62 0200000000000000 2f63", "00"],
      ["0a 0200000000000000 0200000000000000 2f62 0200000000000000 2f63", "0100000000000000 34 0000000000000000"],
      ["08 0200000000000000 2f62", "0100000000000000"],
      ["08 0200000000000000 2f62", "0000000000000000"],
      ["07", "0300000000000000"],
    ],
    { worldSize: 2 },
  );
  await store.set("a", "1");
  expect(text(await store.get("a"))).toBe("1");
  expect(await store.check([])).toBe(true);
  await expect(store.wait(["d1", "d1"], { timeout: 50 })).rejects.toBeInstanceOf(DistTimeoutError);
  await store.queuePush("q", "x");
  expect(await store.queueLen("q")).toBe(1);
  expect(text(await store.queuePop("q"))).toBe("x");
  await expect(store.queuePop("q", { block: false })).rejects.toThrow("queue q is empty");
  expect(await store.listKeys()).toEqual(["a"]);
  expect(await store.add("n", -2)).toBe(-2);
  expect(text(await store.compareSet("a", "1", "2"))).toBe("2");
  await store.append("a", "3");
  await store.multiSet(["b", "c"], ["4", ""]);
  expect((await store.multiGet(["b", "c"])).map(text)).toEqual(["4", ""]);
  expect([await store.deleteKey("b"), await store.deleteKey("b")]).toEqual([true, false]);
  expect(await store.numKeys()).toBe(3);
  expect(server.violations).toEqual([]);
  expect(server.done).toBe(true);
});

test("a reply that crosses the cancellation keeps the stream in step", async () => {
  const { server, store } = await play([
    [d1d1, ""],
    ["0c", "00 01"],
    ["07", "0500000000000000"],
  ]);
  await store.wait(["d1", "d1"], { timeout: 50 });
  expect(await store.numKeys()).toBe(5);
  expect(server.done).toBe(true);
});

test("another call cancels a wait on the same connection and is sent after it", async () => {
  const { store } = await play([
    [d1d1, ""],
    ["0c", "00 01"],
    ["07", "0500000000000000"],
  ]);
  const waiting = store.wait(["d1"].concat("d1"));
  await Bun.sleep(10);
  expect(await store.numKeys()).toBe(5);
  await waiting;
});

test("an aborted wait leaves the connection in step", async () => {
  const { server, store } = await play([
    [d1d1, ""],
    ["0c", "01"],
    ["07", "0500000000000000"],
  ]);
  const controller = new AbortController();
  const waiting = store.wait(["d1", "d1"], { signal: controller.signal });
  await Bun.sleep(10);
  controller.abort(new Error("stop"));
  await expect(waiting).rejects.toThrow("stop");
  expect(await store.numKeys()).toBe(5);
  expect(server.done).toBe(true);
});

test("the error names a server that does not answer the cancellation either", async () => {
  const { server, store } = await play([
    [d1d1, ""],
    ["0c", ""],
  ]);
  const error = await store.wait(["d1", "d1"], { timeout: 50 }).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(DistTimeoutError);
  expect(String(error)).toContain(`127.0.0.1:${server.port} did not answer`);
});

test("a call without an answer times out, and its late answer is dropped", async () => {
  const { server, store } = await play([
    ["07", ""],
    ["10 0200000000000000 2f71", "0500000000000000 0700000000000000"],
  ]);
  const error = await store.numKeys({ timeout: 50 }).catch((reason: unknown) => reason);
  expect(error).toMatchObject({ code: "STORE_TIMEOUT", details: { op: "numKeys", timeoutMs: 50 } });
  expect(await store.queueLen("q")).toBe(7);
  expect(server.done).toBe(true);
});

test("a reply in single bytes", async () => {
  const socket = Promise.withResolvers<Bun.Socket<undefined>>();
  const listener = Bun.listen<undefined>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data: async (peer, chunk) => {
        if (chunk[0] === 0) peer.write(chunk.subarray(6, 10));
        else socket.resolve(peer);
      },
    },
  });
  cleanups.push(() => listener.stop(true));
  const store = await TCPStore.connect({ host: "127.0.0.1", port: listener.port });
  cleanups.push(() => store.close());
  const keys = store.listKeys();
  const peer = await socket.promise;
  for (const byte of Buffer.from(
    "0200000000000000" + "0200000000000000" + "2f61" + "0200000000000000" + "2f62",
    "hex",
  )) {
    peer.write(Uint8Array.of(byte));
    await Bun.sleep(1);
  }
  expect(await keys).toEqual(["a", "b"]);
});

test("bytes without a request end the connection", async () => {
  const { store } = await play([["07", "0500000000000000 ff"]]);
  expect(await store.numKeys()).toBe(5);
  await Bun.sleep(10);
  const error = await store.numKeys().catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(DistNetworkError);
  expect((error as DistError).code).toBe("PROTOCOL_VIOLATION");
});

test("a server of another kind is recognised by its answer to the handshake", async () => {
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { data: (socket) => void socket.write("HTTP") },
  });
  cleanups.push(() => listener.stop(true));
  const connecting = TCPStore.connect({ host: "127.0.0.1", port: listener.port, timeout: 2_000 });
  await expect(connecting).rejects.toThrow("Ping failed, invalid value returned from server");
});
