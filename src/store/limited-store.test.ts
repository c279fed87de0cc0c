import { describe, expect, test } from "bun:test";
import { DistStoreError, DistTimeoutError, QueueEmptyError } from "../errors/index.ts";
import { testStore } from "../testing/store-suite/store-suite.ts";
import { HashStore } from "./hash-store.ts";
import { LimitedStore } from "./limited-store.ts";
import { Store } from "./store.ts";

testStore("LimitedStore", { open: async () => LimitedStore.of(new HashStore()) });

/** The six methods in an object that is not of our class, such as a store of another copy of the package. */
function sixMethods(): Store {
  const below = new HashStore();
  const { set, get, add, check, compareSet, deleteKey } = HashStore.prototype;
  const methods = Object.entries({ set, get, add, check, compareSet, deleteKey });
  return Object.fromEntries(methods.map(([name, method]) => [name, method.bind(below)])) as unknown as Store;
}

testStore("LimitedStore over the six methods only", {
  open: async () => LimitedStore.of(sixMethods()),
  skip: [
    {
      reason: "these cannot be built on the six methods",
      tests: ["numKeys counts", "listKeys", "a clone has the same data and a life of its own"],
    },
    {
      reason: "the store below has nothing to close",
      tests: ["close rejects what is pending and what comes later"],
    },
  ],
});

/** A store whose methods all do the same. */
function always(behaviour: () => unknown): LimitedStore {
  class BadStore extends Store {
    set = behaviour as Store["set"];
    get = behaviour as Store["get"];
    add = behaviour as Store["add"];
    check = behaviour as Store["check"];
    compareSet = behaviour as Store["compareSet"];
    deleteKey = behaviour as Store["deleteKey"];
    override wait = behaviour as Store["wait"];
    override append = behaviour as Store["append"];
    override multiGet = behaviour as Store["multiGet"];
    override multiSet = behaviour as Store["multiSet"];
    override queuePush = behaviour as Store["queuePush"];
    override queuePop = behaviour as Store["queuePop"];
    override queueLen = behaviour as Store["queueLen"];
    override listKeys = behaviour as Store["listKeys"];
    override barrier = behaviour as Store["barrier"];
    override numKeys = behaviour as Store["numKeys"];
    override clone = behaviour as Store["clone"];
  }
  const store = new BadStore();
  store.setTimeout(30);
  return LimitedStore.of(store);
}

const calls: readonly (readonly [string, (store: Store) => Promise<unknown>])[] = [
  ["set", (store) => store.set("k", "v")],
  ["get", (store) => store.get("k")],
  ["add", (store) => store.add("k", 1)],
  ["check", (store) => store.check(["k"])],
  ["compareSet", (store) => store.compareSet("k", "", "v")],
  ["deleteKey", (store) => store.deleteKey("k")],
  ["wait", (store) => store.wait(["k"])],
  ["append", (store) => store.append("k", "v")],
  ["multiGet", (store) => store.multiGet(["k"])],
  ["multiSet", (store) => store.multiSet(["k"], ["v"])],
  ["queuePush", (store) => store.queuePush("k", "v")],
  ["queuePop", (store) => store.queuePop("k")],
  ["queueLen", (store) => store.queueLen("k")],
  ["listKeys", (store) => store.listKeys()],
  ["barrier", (store) => store.barrier("k", 1)],
  ["numKeys", (store) => store.numKeys()],
  ["clone", (store) => store.clone()],
];

const rejection = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    (value) => value,
    (error: unknown) => error,
  );

describe.each([...calls])("%s", (op, call) => {
  test("ends at its time-out if the store's call does not", async () => {
    const error = await rejection(call(always(() => new Promise(() => {}))));
    expect(error).toBeInstanceOf(DistTimeoutError);
    expect(error).toMatchObject({ code: "STORE_TIMEOUT", details: { op, timeoutMs: 30 } });
    expect(String(error)).toContain("BadStore did not answer within 30 ms");
  });

  test.each([
    [
      "at once",
      () => {
        throw new Error("broke");
      },
    ],
    ["later", () => Promise.reject(new Error("broke"))],
  ])("what is thrown %s rejects", async (_, behaviour) => {
    const error = await rejection(call(always(behaviour)));
    expect(error).toBeInstanceOf(DistStoreError);
    expect(error).toMatchObject({ code: "STORE_FAILED", details: { op }, cause: { message: "broke" } });
  });
});

const answering = calls.filter(([op]) => !["set", "wait", "append", "multiSet", "queuePush", "barrier"].includes(op));
describe.each([...answering])("%s", (op, call) => {
  test.each([["zzz"], [null], [undefined], [Number.NaN], [new Map()]])("the result %p is refused", async (value) => {
    const error = await rejection(call(always(async () => value)));
    if (op === "clone" && value instanceof Map) expect(error).toBeInstanceOf(LimitedStore);
    else expect(error).toMatchObject({ code: "STORE_BAD_ANSWER", details: { op } });
  });
});

test("an abort ends a call that hangs, with its reason", async () => {
  const controller = new AbortController();
  const reason = new Error("enough");
  const store = always(() => new Promise(() => {}));
  const pending = rejection(store.get("k", { signal: controller.signal, timeout: 60_000 }));
  controller.abort(reason);
  expect(await pending).toBe(reason);
});

test("errors of a store are passed on unchanged", async () => {
  const store = LimitedStore.of(new HashStore());
  expect(await rejection(store.queuePop("q", { block: false }))).toBeInstanceOf(QueueEmptyError);
  expect(await rejection(store.get("k", { timeout: 20 }))).toHaveProperty(
    "message",
    expect.stringContaining("missing: k"),
  );
});
