import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { networkInterfaces } from "node:os";
import { DistTimeoutError } from "../../../errors/index.ts";
import { BlackHole } from "../fixtures/black-hole.ts";
import { TCPStoreServer } from "../server/server.ts";
import { StoreSecret } from "../store-secret.ts";
import { callLimit } from "./call-limit.ts";
import { type DialOptions, dial } from "./dial.ts";
import { TCPStore } from "./tcp-store.ts";

setDefaultTimeout(30_000);

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function hole(address?: string): Promise<BlackHole> {
  const opened = await BlackHole.open(address);
  cleanups.push(() => opened[Symbol.dispose]());
  return opened;
}

async function listen(host: string, port = 0, secret: string | null = null): Promise<TCPStoreServer> {
  const server = await TCPStoreServer.listen({ host, port, secret });
  cleanups.push(() => server.close());
  return server;
}

const named = (...addresses: string[]): DialOptions => ({ resolve: () => Promise.resolve(addresses) });

test("an address that never answers: the time-out says so, with host and port", async () => {
  const { port } = await hole();
  const started = performance.now();
  const error: unknown = await TCPStore.connect({ host: "127.0.0.1", port, timeout: 400, secret: null }).catch(
    (reason: unknown) => reason,
  );
  expect(performance.now() - started).toBeWithin(390, 4_000);
  expect(error).toBeInstanceOf(DistTimeoutError);
  expect(error).toMatchObject({ code: "CONNECT_TIMEOUT", details: { host: "127.0.0.1", port, timeoutMs: 400 } });
  expect(String(error)).toContain(`no answer from 127.0.0.1:${port}`);
});

test("the same for a client with a secret, whose probe of the server gets no answer either", async () => {
  const { port } = await hole();
  const connecting = TCPStore.connect({ host: "127.0.0.1", port, timeout: 400, secret: "s" });
  await expect(connecting).rejects.toMatchObject({ code: "CONNECT_TIMEOUT" });
  await expect(connecting).rejects.toThrow(`no answer from 127.0.0.1:${port}`);
});

test.each([null, "s"])(
  "the next address of a name is tried in parallel to one that never answers (secret: %p)",
  async (secret) => {
    const { port } = await hole("127.0.0.1");
    const server = await listen("127.0.0.2", port, secret);
    const proof = secret === null ? undefined : new StoreSecret(secret);
    const started = performance.now();
    const connection = await dial("node0", port, callLimit({}, 20_000), proof, named("127.0.0.1", "127.0.0.2"));
    expect(performance.now() - started).toBeWithin(200, 5_000);
    expect(connection.endpoint).toMatchObject({ host: "node0", address: "127.0.0.2" });
    connection.close();
    expect(await server.drained(5_000)).toBe(true);
  },
);

test("the next address is tried at once after one that refuses, and the first is preferred", async () => {
  const { port } = await listen("127.0.0.2");
  const second = await dial("node0", port, callLimit({}, 20_000), undefined, named("127.0.0.1", "127.0.0.2"));
  expect(second.endpoint.address).toBe("127.0.0.2");
  second.close();
  await listen("127.0.0.3", port);
  const first = await dial("node0", port, callLimit({}, 20_000), undefined, named("127.0.0.3", "127.0.0.2"));
  expect(first.endpoint.address).toBe("127.0.0.3");
  first.close();
});

test("if none answers, the error names all addresses that were tried", async () => {
  const { port } = await hole("127.0.0.1");
  const dialling = dial("node0", port, callLimit({}, 700), undefined, named("127.0.0.1", "127.0.0.4"));
  await expect(dialling).rejects.toMatchObject({ code: "CONNECT_TIMEOUT", details: { host: "node0", port } });
  await expect(dialling).rejects.toThrow(/node0:\d+ \(127\.0\.0\.4\): ECONNREFUSED/);
  await expect(dialling).rejects.toThrow(`no answer from node0:${port} (127.0.0.1)`);
});

const loopbacks = new Set(
  Object.values(networkInterfaces()).flatMap((all) => (all ?? []).map(({ address }) => address)),
);

test.each(loopbacks.has("::1") ? ["127.0.0.1", "::1"] : ["127.0.0.1"])("server and client on %s", async (host) => {
  await using master = await TCPStore.connect({ host, port: 0, isMaster: true, secret: "s" });
  await using client = await TCPStore.connect({ host, port: master.port, secret: "s", timeout: 10_000 });
  await client.set("k", "v");
  expect(new TextDecoder().decode(await master.get("k"))).toBe("v");
  expect(client.localAddress).toBe(host);
  // Only there.
  const other = host === "::1" ? "127.0.0.1" : "127.0.0.2";
  const elsewhere = TCPStore.connect({ host: other, port: master.port, secret: "s", timeout: 100 });
  await expect(elsewhere).rejects.toThrow("ECONNREFUSED");
});
