import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { DistStoreError, QueueEmptyError } from "../errors/index.ts";
import { FileStore } from "./file/file-store.ts";
import { RedisServer } from "./fixtures/redis-server.ts";
import { HashStore } from "./hash-store.ts";
import { PrefixStore } from "./prefix-store.ts";
import { RedisStore } from "./redis/redis-store.ts";
import type { Store } from "./store.ts";
import { TCPStore } from "./tcp/client/tcp-store.ts";

/** A model of what a store must do. */
class Model {
  readonly values = new Map<string, string>();
  readonly queues = new Map<string, string[]>();

  has(key: string): boolean {
    return this.values.has(key) || (this.queues.get(key)?.length ?? 0) > 0;
  }
}

/** A step does the same to both and compares the results. */
type Step = (store: Store, model: Model) => Promise<void>;

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const key = fc.constantFrom("a", "b", "c", "ключ");
const value = fc.oneof(fc.constantFrom("", "1", "-7", "x1", "9007199254740990"), fc.string({ unit: "grapheme" }));
const counter = /^[+-]?\d+$/;

const step: fc.Arbitrary<[string, Step]> = fc.oneof(
  fc.tuple(key, value).map(([k, v]): [string, Step] => [
    `set ${k} ${v}`,
    async (store, { values }) => {
      await store.set(k, v);
      values.set(k, v);
    },
  ]),
  key.map((k): [string, Step] => [
    `get ${k}`,
    async (store, model) => {
      if (!model.has(k)) return;
      expect(text(await store.get(k, { timeout: 5_000 }))).toBe(model.values.get(k) ?? "");
    },
  ]),
  fc.tuple(key, fc.oneof(fc.integer({ min: -20, max: 20 }), fc.constant(2 ** 53 - 1))).map(([k, n]): [string, Step] => [
    `add ${k} ${n}`,
    async (store, { values }) => {
      const before = values.get(k) ?? "";
      const sum = before === "" ? n : counter.test(before) ? Number(before) + n : Number.NaN;
      if (Number.isSafeInteger(sum)) {
        expect(await store.add(k, n)).toBe(sum);
        values.set(k, String(sum));
      } else {
        await expect(store.add(k, n)).rejects.toBeInstanceOf(DistStoreError);
      }
    },
  ]),
  fc.array(key, { maxLength: 4 }).map((keys): [string, Step] => [
    `check ${keys}`,
    async (store, model) => {
      expect(await store.check(keys)).toBe(keys.every((k) => model.has(k)));
    },
  ]),
  fc.tuple(key, value, value, fc.boolean()).map(([k, e, v, fits]): [string, Step] => [
    `compareSet ${k} ${e} ${v} ${fits}`,
    async (store, { values }) => {
      const current = values.get(k);
      const expected = fits ? (current ?? "") : e;
      const sets = (current ?? "") === expected;
      if (sets) values.set(k, v);
      expect(text(await store.compareSet(k, expected, v))).toBe(sets ? v : (current ?? expected));
    },
  ]),
  key.map((k): [string, Step] => [
    `deleteKey ${k}`,
    async (store, { values }) => {
      expect(await store.deleteKey(k)).toBe(values.delete(k));
    },
  ]),
  fc.tuple(key, value).map(([k, v]): [string, Step] => [
    `append ${k} ${v}`,
    async (store, { values }) => {
      await store.append(k, v);
      values.set(k, (values.get(k) ?? "") + v);
    },
  ]),
  fc.array(fc.tuple(key, value), { maxLength: 4 }).map((pairs): [string, Step] => [
    `multiSet ${pairs}`,
    async (store, { values }) => {
      await store.multiSet(
        pairs.map(([k]) => k),
        pairs.map(([, v]) => v),
      );
      for (const [k, v] of pairs) values.set(k, v);
    },
  ]),
  fc.array(key, { maxLength: 4 }).map((keys): [string, Step] => [
    `multiGet ${keys}`,
    async (store, model) => {
      if (!keys.every((k) => model.has(k))) return;
      expect((await store.multiGet(keys)).map(text)).toEqual(keys.map((k) => model.values.get(k) ?? ""));
    },
  ]),
  fc.tuple(key, value).map(([k, v]): [string, Step] => [
    `queuePush ${k} ${v}`,
    async (store, { queues }) => {
      await store.queuePush(k, v);
      queues.set(k, [...(queues.get(k) ?? []), v]);
    },
  ]),
  key.map((k): [string, Step] => [
    `queuePop ${k}`,
    async (store, { queues }) => {
      const element = queues.get(k)?.shift();
      expect(await store.queueLen(k)).toBe((queues.get(k)?.length ?? 0) + (element === undefined ? 0 : 1));
      const popped = store.queuePop(k, { block: false });
      if (element === undefined) await expect(popped).rejects.toBeInstanceOf(QueueEmptyError);
      else expect(text(await popped)).toBe(element);
    },
  ]),
  fc.constant<[string, Step]>([
    "numKeys and listKeys",
    async (store, { values }) => {
      expect((await store.listKeys()).sort()).toEqual([...values.keys()].sort());
    },
  ]),
);

/** A store whose calls go to each of `stores` in turn; close closes all. */
function inTurns(stores: readonly Store[]): Store {
  let calls = 0;
  return new Proxy(stores[0] ?? new HashStore(), {
    get(_, name) {
      if (name === "close") return () => Promise.all(stores.map((store) => store.close()));
      const store = stores[calls++ % stores.length];
      const member: unknown = store && Reflect.get(store, name, store);
      return typeof member === "function" ? member.bind(store) : member;
    },
  });
}

let histories = 0;
let base: TCPStore | undefined;
let redis: RedisServer | undefined;
let redisBase: RedisStore | undefined;
const folder = mkdtempSync(join(tmpdir(), "store-model-"));
afterAll(async () => {
  await base?.close();
  await redisBase?.close();
  await redis?.stop();
  rmSync(folder, { recursive: true });
});

/**
 * Stores for one history each; those on TCP share a server and differ by prefix. Calls on a file alternate between two
 * handles.
 */
const kinds: readonly (readonly [name: string, open: () => Promise<Store>, runs: number])[] = [
  ["HashStore", async () => new HashStore(), 300],
  [
    "TCPStore",
    async () => {
      base ??= await TCPStore.connect({ host: "127.0.0.1", port: 0, isMaster: true });
      return new PrefixStore(`history ${histories++}`, base);
    },
    150,
  ],
  [
    "FileStore",
    async () => {
      const path = join(folder, `history ${histories++}`);
      return inTurns([await FileStore.open(path, 2), await FileStore.open(path, 2)]);
    },
    150,
  ],
  [
    "RedisStore",
    async () => {
      redis ??= await RedisServer.start();
      redisBase ??= await RedisStore.connect(`redis://127.0.0.1:${redis.port}`);
      return new PrefixStore(`history ${histories++}`, redisBase);
    },
    100,
  ],
];

describe("random histories agree with a map", () => {
  test.each(kinds)(
    "%s",
    async (_, open, numRuns) => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 40 }), async (steps) => {
          const store = await open();
          const model = new Model();
          for (const [, run] of steps) await run(store, model);
          if (!(store instanceof PrefixStore)) await store.close();
        }),
        { numRuns },
      );
    },
    30_000,
  );
});
