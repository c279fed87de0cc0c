import { expect, test } from "bun:test";
import { InvalidArgumentError } from "../errors/index.ts";
import { testStore } from "../testing/store-suite/store-suite.ts";
import { HashStore } from "./hash-store.ts";
import { PrefixStore } from "./prefix-store.ts";

testStore("PrefixStore", {
  open: async () => new PrefixStore("outer", new PrefixStore("inner", new HashStore())),
  skip: [
    {
      reason: "closing a view leaves the store below open",
      tests: ["close rejects what is pending and what comes later"],
    },
  ],
});

test("keys are joined with a slash, the innermost prefix first", async () => {
  const base = new HashStore();
  await new PrefixStore("a", new PrefixStore("b", base)).set("k", "1");
  await new PrefixStore("", base).set("k", "2");
  await new PrefixStore("0/", base).set("k", "3");
  expect((await base.listKeys()).sort()).toEqual(["/k", "0//k", "b/a/k"]);
});

test("keys of different prefixes do not collide", async () => {
  const base = new HashStore();
  const [a, b] = [new PrefixStore("a", base), new PrefixStore("b", base)];
  await a.set("k", "1");
  expect(await b.check(["k"])).toBe(false);
  expect(await b.listKeys()).toEqual([]);
  expect(await b.numKeys()).toBe(1);
});

test("the stores below", () => {
  const base = new HashStore();
  const inner = new PrefixStore("b", base);
  const outer = new PrefixStore("a", inner);
  expect(outer.underlyingStore).toBe(inner);
  expect(outer.underlyingNonPrefixStore).toBe(base);
  outer.setTimeout(1234);
  expect([outer.timeout, base.timeout]).toEqual([1234, 1234]);
  expect(outer.localAddress).toBeUndefined();
  expect(outer.hasExtendedApi()).toBe(true);
});

test("bad arguments", () => {
  const missing = undefined as unknown;
  expect(() => new PrefixStore("a", missing as HashStore)).toThrow(InvalidArgumentError);
  expect(() => new PrefixStore(missing as string, new HashStore())).toThrow(InvalidArgumentError);
});
