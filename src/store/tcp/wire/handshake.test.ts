import { afterEach, describe, expect, spyOn, test } from "bun:test";
import { createHmac } from "node:crypto";
import { DistNetworkError, InvalidArgumentError } from "../../../errors/index.ts";
import { TCPStore } from "../client/tcp-store.ts";
import type { TCPStoreOptions } from "../client/tcp-store-options.ts";
import { fromHex, RawConnection } from "../fixtures/raw-connection.ts";
import { TCPStoreServer, type TCPStoreServerOptions } from "../server/server.ts";
import { chosenSecret, environmentSecret, newSecret, StoreSecret } from "../store-secret.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const secret = "a secret of the test";
const hello = "c1 63313064736563";
const clientNonce = "11".repeat(32);
const openHello = "00 cef7853c 0d e6690000";

async function listen(options: Partial<TCPStoreServerOptions> = {}) {
  const dropped: string[] = [];
  const server = await TCPStoreServer.listen({
    host: "127.0.0.1",
    port: 0,
    secret,
    onDrop: (_, __, code) => dropped.push(code),
    ...options,
  });
  cleanups.push(() => server.close());
  return Object.assign(server, { codes: dropped });
}

async function raw(server: TCPStoreServer): Promise<RawConnection> {
  const connection = await RawConnection.open(server.port);
  cleanups.push(() => connection.close());
  return connection;
}

async function connect(port: number, options: Partial<TCPStoreOptions> = {}): Promise<TCPStore> {
  const store = await TCPStore.connect({ host: "127.0.0.1", port, secret, timeout: 10_000, ...options });
  cleanups.push(() => store.close());
  return store;
}

/** The HMAC by another implementation, written from the description alone. */
function proof(role: string, server: string, client = clientNonce, key = secret): string {
  const message = Buffer.concat([Buffer.from(`bun-c10d store v1 ${role}\0`), fromHex(client), fromHex(server)]);
  return createHmac("sha256", key).update(message).digest("hex");
}

/** The server's nonce, after a hello. */
async function challengeOf(connection: RawConnection): Promise<string> {
  connection.send(hello + clientNonce);
  const challenge = await connection.receive(33);
  expect(challenge).toStartWith("c2");
  expect(challenge).toHaveLength(66);
  return challenge.slice(2);
}

/** Whether the store answers a PING, which it does only after the handshake. */
async function served(connection: RawConnection): Promise<boolean> {
  connection.send("00 cef7853c 0d 2a000000");
  return (await connection.receive(4)) === "2a000000";
}

describe("the proof", () => {
  test("is as described", () => {
    const given = new StoreSecret("key");
    const [client, server] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
    expect(given.proof("client", client, server).toHex()).toBe(
      "b05311115515a0cad38712990e9f07db0344464c4058f97ed7a501333821ee7d",
    );
    expect(given.proof("server", client, server).toHex()).toBe(
      "4d57f2f4bb963bf4a00f6627e9d3774e1bc1fcc240e08a237203c22cd38058ff",
    );
    for (const role of ["client", "server"] as const) {
      expect(given.proof(role, client, server).toHex()).toBe(proof(role, server.toHex(), client.toHex(), "key"));
    }
  });

  test("is compared in constant time, on both sides", async () => {
    const compare = spyOn(crypto, "timingSafeEqual");
    cleanups.push(() => compare.mockRestore());
    const server = await listen();
    await connect(server.port);
    expect(compare).toHaveBeenCalledTimes(2);
    for (const [a, b] of compare.mock.calls) expect([a.byteLength, b.byteLength]).toEqual([32, 32]);
  });

  test("does not show the secret", async () => {
    const server = await listen();
    const store = await connect(server.port);
    for (const shown of [Bun.inspect(store), Bun.inspect(server), Bun.inspect(new StoreSecret(secret))]) {
      expect(shown).not.toContain(secret);
    }
    expect(JSON.stringify(new StoreSecret(secret))).toBe("{}");
  });

  test("a new secret has 256 bits and is different each time", () => {
    const minted = Array.from({ length: 100 }, newSecret);
    for (const each of minted) expect(each).toMatch(/^[0-9a-f]{64}$/);
    expect(new Set(minted).size).toBe(100);
  });
});

describe("on the wire", () => {
  test("hello, challenge, proof, accept, and then PyTorch's protocol", async () => {
    const server = await listen();
    const connection = await raw(server);
    const serverNonce = await challengeOf(connection);
    expect(server.clients).toBe(0);
    connection.send(proof("client", serverNonce));
    expect(await connection.receive(33)).toBe(`c4${proof("server", serverNonce)}`);
    expect(await served(connection)).toBe(true);
    expect([server.clients, server.dropped]).toEqual([1, 0]);
  });

  test.each([1, 3, 7])("the same in pieces of %d bytes", async (size) => {
    const connection = await raw(await listen());
    const sendCut = async (hex: string) => {
      const bytes = fromHex(hex);
      for (let at = 0; at < bytes.length; at += size) {
        connection.send(bytes.subarray(at, at + size));
        await Bun.sleep(0);
      }
    };
    await sendCut(hello + clientNonce);
    const serverNonce = (await connection.receive(33)).slice(2);
    await sendCut(`${proof("client", serverNonce)} ${openHello}`);
    expect(await connection.receive(37)).toBe(`c4${proof("server", serverNonce)}e6690000`);
  });

  test("nonces are new for each connection", async () => {
    const server = await listen();
    const nonces = new Set<string>();
    for (let i = 0; i < 20; i++) nonces.add(await challengeOf(await raw(server)));
    expect(nonces.size).toBe(20);
  });

  test.each([
    ["a wrong secret", (nonce: string) => proof("client", nonce, clientNonce, "another")],
    ["a proof that lacks a bit", (nonce: string) => flip(proof("client", nonce))],
    ["the other role", (nonce: string) => proof("server", nonce)],
    ["the nonces swapped", (nonce: string) => proof("client", clientNonce, nonce)],
    ["the challenge sent back", (nonce: string) => nonce],
    ["zeros", () => "00".repeat(32)],
  ])("%s is refused", async (_, answer) => {
    const server = await listen();
    const other = await connect(server.port);
    const connection = await raw(server);
    connection.send(`${answer(await challengeOf(connection))} ${openHello}`);
    expect(await connection.receive(100)).toBe("c301");
    expect(await connection.hungUp()).toBe(true);
    expect(server.codes).toEqual(["SECRET_MISMATCH"]);
    expect(await other.add("n", 1)).toBe(1);
  });

  test("a recorded proof is useless on another connection", async () => {
    const server = await listen();
    const first = await raw(server);
    const recorded = proof("client", await challengeOf(first));
    first.send(recorded);
    expect(await first.receive(1)).toBe("c4");
    const second = await raw(server);
    await challengeOf(second);
    second.send(recorded);
    expect(await second.receive(2)).toBe("c301");
    expect(await second.hungUp()).toBe(true);
  });

  test("a connection cannot be made to answer the challenge of another one", async () => {
    const server = await listen();
    const [victim, oracle] = [await raw(server), await raw(server)];
    const challenge = await challengeOf(victim);
    // The server's nonce as that of a client: the answer proves nothing to the server itself.
    oracle.send(hello + challenge);
    const answer = (await oracle.receive(33)).slice(2);
    expect(answer).not.toBe(challenge);
    oracle.send(answer);
    expect(await oracle.receive(2)).toBe("c301");
    victim.send(answer);
    expect(await victim.receive(2)).toBe("c301");
  });

  test.each([
    ["nothing", ""],
    ["half a hello", hello + clientNonce.slice(0, 20)],
    ["a hello without a proof", hello + clientNonce],
    ["half a proof", `${hello}${clientNonce}${"00".repeat(31)}`],
  ])("%s in time is dropped", async (_, bytes) => {
    const server = await listen({ handshakeTimeout: 60 });
    const connection = await raw(server);
    if (bytes !== "") connection.send(bytes);
    expect(await connection.hungUp()).toBe(true);
    expect(server.codes).toEqual(["HANDSHAKE_TIMEOUT"]);
  });

  test.each([
    ["another protocol", Buffer.from("GET / HTTP/1.1\r\n\r\n").toString("hex")],
    ["a hello of another version", `c1 63313064736564 ${clientNonce}`],
    ["a request", "03 0200000000000000 2f61"],
  ])("%s is dropped without an answer", async (_, bytes) => {
    const server = await listen();
    const connection = await raw(server);
    connection.send(bytes);
    expect(await connection.hungUp()).toBe(true);
    expect(await connection.receive(1)).toBe("");
    expect(server.codes).toEqual(["PROTOCOL_VIOLATION"]);
  });

  test("PyTorch's client receives an unknown number as the answer to its PING", async () => {
    const server = await listen();
    const connection = await raw(server);
    connection.send(`${openHello} 03 0200000000000000 2f61`);
    expect(await connection.receive(100)).toBe("0dc1a7b7");
    expect(await connection.hungUp()).toBe(true);
    expect(server.codes).toEqual(["SECRET_REQUIRED"]);
  });
});

describe("client and server", () => {
  test("with the same secret have all ops, further connections and clones", async () => {
    const server = await listen();
    const [a, b] = [await connect(server.port), await connect(server.port)];
    const waiting = [a.get("k"), a.wait(["k", "l"]), a.queuePop("q")];
    await b.multiSet(["k", "l"], ["1", "2"]);
    await b.queuePush("q", "3");
    await Promise.all(waiting);
    const twin = await a.clone();
    cleanups.push(() => twin.close());
    expect(await twin.check(["k", "l"])).toBe(true);
    expect(server.dropped).toBe(0);
  });

  test("the master hosts with its secret, in its Worker", async () => {
    const host = await connect(0, { isMaster: true });
    expect(await (await connect(host.port)).add("n", 1)).toBe(1);
    const warned = Promise.withResolvers<Error>();
    process.on("warning", warned.resolve);
    cleanups.push(() => process.off("warning", warned.resolve));
    const open = TCPStore.connect({ host: "127.0.0.1", port: host.port, secret: null, timeout: 5_000 });
    await expect(open).rejects.toMatchObject({ code: "SECRET_REQUIRED" });
    const warning = await warned.promise;
    expect(warning).toHaveProperty("code", "C10D_STORE_REFUSED");
    expect(warning.message).toContain(`127.0.0.1:${host.port} refused the client at`);
    expect(warning.message).toContain("but this store requires its secret");
  });

  test("a client without one fails at once", async () => {
    const server = await listen();
    const connecting = connect(server.port, { secret: null });
    await expect(connecting).rejects.toBeInstanceOf(DistNetworkError);
    await expect(connecting).rejects.toMatchObject({
      code: "SECRET_REQUIRED",
      details: { host: "127.0.0.1", port: server.port },
    });
    await expect(connecting).rejects.toThrow(/127\.0\.0\.1:\d+ requires a secret.*C10D_STORE_SECRET.*--torch-compat/s);
    expect(server.codes).toEqual(["SECRET_REQUIRED"]);
  });

  test("a client with a different one fails at once", async () => {
    const server = await listen();
    const connecting = connect(server.port, { secret: "another" });
    await expect(connecting).rejects.toMatchObject({ code: "SECRET_MISMATCH", name: "DistNetworkError" });
    await expect(connecting).rejects.toThrow("a different secret");
    expect(server.codes).toEqual(["SECRET_MISMATCH"]);
  });

  test("a client with one at a server without one fails at once, and sends nothing to it", async () => {
    const server = await listen({ secret: null });
    const connecting = connect(server.port);
    await expect(connecting).rejects.toMatchObject({ code: "SECRET_UNSUPPORTED", name: "DistNetworkError" });
    await expect(connecting).rejects.toThrow(/has no secret.*open protocol/s);
    expect(server.codes).toEqual(["SECRET_UNSUPPORTED"]);
  });

  /** A server that takes connections and answers the first bytes of each. */
  function impostor(answer: (bytes: Uint8Array, socket: Bun.Socket<undefined>) => void) {
    const listener = Bun.listen<undefined>({
      hostname: "127.0.0.1",
      port: 0,
      socket: { data: (socket, bytes) => answer(bytes, socket) },
    });
    cleanups.push(() => listener.stop(true));
    return listener.port;
  }

  test("a server that does not know secrets is identified: silent (libuv) or hanging up (legacy)", async () => {
    const pings = (bytes: Uint8Array, socket: Bun.Socket<undefined>) => {
      if (bytes[0] === 0) socket.write(bytes.subarray(6, 10));
      return bytes[0] === 0;
    };
    const silent = impostor((bytes, socket) => void pings(bytes, socket));
    const legacy = impostor((bytes, socket) => void (pings(bytes, socket) || socket.end()));
    for (const port of [silent, legacy]) {
      const started = performance.now();
      await expect(connect(port, { timeout: 60_000 })).rejects.toMatchObject({ code: "SECRET_UNSUPPORTED" });
      expect(performance.now() - started).toBeLessThan(4_000);
    }
  });

  test("an impostor that proves nothing receives nothing", async () => {
    const received: Uint8Array[] = [];
    const port = impostor((bytes, socket) => {
      received.push(bytes.slice());
      // By its length: a proof may begin with any byte.
      if (bytes.length === 40) socket.write(Buffer.concat([Uint8Array.of(0xc2), new Uint8Array(32)]));
      // It reflects the proof, which is that of the client.
      else socket.write(Buffer.concat([Uint8Array.of(0xc4), bytes]));
    });
    await expect(connect(port)).rejects.toMatchObject({ code: "SECRET_MISMATCH" });
    expect(received.map((bytes) => bytes.length)).toEqual([40, 32]);
  });

  test("a server that stays silent causes a time-out", async () => {
    const port = impostor(() => {});
    const started = performance.now();
    await expect(connect(port, { timeout: 200 })).rejects.toMatchObject({ code: "CONNECT_TIMEOUT" });
    expect(performance.now() - started).toBeLessThan(2_000);
  });
});

describe("which secret", () => {
  test("that of the environment by default", () => {
    expect(environmentSecret({})).toBeNull();
    expect(environmentSecret({ C10D_STORE_SECRET: "" })).toBeNull();
    expect(environmentSecret({ C10D_STORE_SECRET: "s" })).toBe("s");
    expect(environmentSecret({ C10D_STORE_SECRET: "s", TORCHELASTIC_USE_AGENT_STORE: "True" })).toBe("s");
  });

  test("none under torchrun, with a warning", () => {
    const warn = spyOn(process, "emitWarning").mockImplementation(() => {});
    cleanups.push(() => warn.mockRestore());
    const torchrun = { TORCHELASTIC_ERROR_FILE: "/tmp/error.json", C10D_STORE_SECRET: "s" };
    expect(environmentSecret({ ...torchrun, C10D_STORE_SECRET: undefined })).toBeNull();
    expect(warn).not.toHaveBeenCalled();
    expect([environmentSecret(torchrun), environmentSecret(torchrun)]).toEqual([null, null]);
    expect(warn).toHaveBeenCalledTimes(1);
    expect(String(warn.mock.calls[0]?.[0])).toContain("open protocol");
  });

  test("that of the option otherwise", () => {
    expect([chosenSecret("s"), chosenSecret(null)]).toEqual(["s", null]);
    for (const bad of ["", 1, false, new Uint8Array(32)]) {
      expect(() => chosenSecret(bad as never)).toThrow(InvalidArgumentError);
    }
  });
});

function flip(hex: string): string {
  return hex.slice(0, -1) + (Number.parseInt(hex.slice(-1), 16) ^ 1).toString(16);
}
