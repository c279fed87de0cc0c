import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { rendezvous } from "../distributed/index.ts";
import { DistError, InvalidArgumentError } from "../errors/index.ts";
import { RedisServer } from "../store/fixtures/redis-server.ts";
import { FileStore, RedisStore } from "../store/index.ts";
import type { Rendezvous, RendezvousOptions } from "./rendezvous-handler.ts";

const folder = mkdtempSync(join(tmpdir(), "rendezvous-"));
let server: RedisServer;
let places = 0;
beforeAll(async () => {
  server = await RedisServer.start();
});
afterAll(async () => {
  await server.stop();
  rmSync(folder, { recursive: true });
});

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function meet(url: string, options: RendezvousOptions = {}): Promise<Rendezvous> {
  const met = await rendezvous(url, { timeout: 5_000, ...options });
  cleanups.push(() => met.close?.());
  return met;
}

async function failure(url: string, options: RendezvousOptions = {}): Promise<DistError> {
  const error = await rendezvous(url, { timeout: 2_000, ...options }).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(DistError);
  return error as DistError;
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const newFile = () => join(folder, `a file ${places++}`);

/** Where ranks meet: a URL without its query, and whether what they wrote is still there. */
const kinds = [
  {
    name: "file://",
    place() {
      const path = newFile();
      return { url: `file://${path}`, remains: async () => existsSync(path) };
    },
  },
  {
    name: "redis://",
    place() {
      const url = `redis://127.0.0.1:${server.port}/1/job-${places++}`;
      return {
        url,
        async remains() {
          await using store = await RedisStore.connect(url);
          return (await store.numKeys()) > 0;
        },
      };
    },
  },
];

describe.each(kinds)("$name", ({ name, place }) => {
  const scheme = name.slice(0, -3);

  test("ranks meet, and the last one to close removes the place", async () => {
    const { url, remains } = place();
    const ranks = await Promise.all([1, 0].map((rank) => meet(`${url}?rank=${rank}&world_size=2`)));
    expect(ranks.map(({ rank, worldSize }) => [rank, worldSize])).toEqual([
      [1, 2],
      [0, 2],
    ]);
    const [one, zero] = ranks;
    const waiting = one?.store.get("k");
    await zero?.store.set("k", "v");
    expect(text((await waiting) ?? new Uint8Array())).toBe("v");
    expect(one?.store.timeout).toBe(5_000);
    await one?.close?.();
    expect(await remains()).toBe(true);
    await zero?.close?.();
    expect(await remains()).toBe(false);
  });

  test("rank and world size as arguments", async () => {
    expect(await meet(place().url, { rank: 0, worldSize: 1 })).toMatchObject({ rank: 0, worldSize: 1 });
  });

  test.each([
    ["?world_size=1", "rank parameter missing"],
    ["?rank=0", "world size parameter missing"],
  ])("%s", async (query, what) => {
    const { url, remains } = place();
    const error = await failure(`${url}${query}`);
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect(error.message).toBe(
      `Error initializing torch.distributed using ${scheme}:// rendezvous: ${what}: ` +
        `give initProcessGroup() rank and worldSize, or write ${scheme}://…?rank=0&world_size=2`,
    );
    expect(await remains()).toBe(false);
  });

  test("bad numbers", async () => {
    for (const query of ["?rank=2&world_size=2", "?rank=x&world_size=2", "?rank=0&world_size=0"]) {
      expect(await failure(place().url + query)).toBeInstanceOf(InvalidArgumentError);
    }
  });

  test("a place that was used before, or the same rank twice", async () => {
    const { url } = place();
    await meet(`${url}?rank=0&world_size=2`);
    const error = await failure(`${url}?rank=0&world_size=2`);
    expect(error).toMatchObject({ code: "RANK_TAKEN", details: { rank: 0 } });
    expect(error.message).toContain("earlier job");
  });

  test("the ranks disagree on the world size", async () => {
    const { url } = place();
    await meet(`${url}?rank=0&world_size=2`);
    expect(await failure(`${url}?rank=1&world_size=3`)).toMatchObject({ code: "WORLD_SIZE_MISMATCH" });
  });
});

test.each([
  ["file://?rank=0&world_size=1", "file:// rendezvous: path missing"],
  ["file:///?rank=0&world_size=1", "file:// rendezvous: path missing"],
  ["file://tmp/x?rank=0&world_size=1", "a host comes first: tmp"],
  ["redis://?rank=0&world_size=1", "redis:// rendezvous: host missing"],
  ["redis+unix://?rank=0&world_size=1", "redis:// rendezvous: path missing"],
])("%s", async (url, message) => {
  const error = await failure(url);
  expect(error).toBeInstanceOf(InvalidArgumentError);
  expect(error.message).toContain(message);
});

test.each(["a b%20c", "100%", "%zz", "..name", "q\\r", "a;b", "ä|:"])(
  "file:// uses the path %j as written, as PyTorch does",
  async (name) => {
    const path = join(folder, name);
    const { store } = await meet(`file://${path}?rank=0&world_size=2`);
    expect(existsSync(path)).toBe(true);
    expect((store as FileStore).path).toBe(path);
  },
);

test("a redis:// URL with a % that is not an escape is refused", async () => {
  const error = await failure(`redis://127.0.0.1:${server.port}/0/100%?rank=0&world_size=1`);
  expect(error).toBeInstanceOf(InvalidArgumentError);
  expect(error.message).toContain('"100%"');
});

test("a file of PyTorch's job is joined like one of ours", async () => {
  const path = newFile();
  // What a Python rank leaves there before this rank joins: its handle, and its keys.
  const python = await FileStore.open(path, 2);
  await python.set("default_pg/0//cpu//0", "address");
  const { store } = await meet(`file://${path}?rank=1&world_size=2`);
  expect(text(await store.get("default_pg/0//cpu//0"))).toBe("address");
  await python.close();
});

test("no server: the error names it", async () => {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  listener.stop(true);
  const error = await failure(`redis://127.0.0.1:${listener.port}?rank=0&world_size=1`, { timeout: 150 });
  expect(error).toMatchObject({ code: "CONNECT_TIMEOUT", details: { port: listener.port } });
});

test("the modules for files and Redis are loaded only when they are used", () => {
  const index = JSON.stringify(join(import.meta.dir, "../index.ts"));
  const code = `await import(${index});
    const loaded = [...(globalThis.Loader?.registry?.keys() ?? Object.keys(require.cache))];
    console.log(JSON.stringify(loaded));`;
  const run = Bun.spawnSync([process.execPath, "-e", code], { stderr: "inherit", timeout: 10_000 });
  const loaded: string[] = JSON.parse(run.stdout.toString());
  expect(loaded.some((file) => file.endsWith("/store/file/file-store.ts"))).toBe(true);
  const early = /\/rendezvous\/(file|redis)\.ts$|\/store\/(redis\/(?!redis-store)|file\/(?!record|file-store))/;
  expect(loaded.filter((file) => early.test(file))).toEqual([]);
});
