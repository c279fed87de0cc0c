import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import * as own from "../../src/index.ts";

setDefaultTimeout(60_000);

// Two copies of the package in one process, as with two versions in node_modules or `bun --hot`.

const root = resolve(import.meta.dir, "../..");
let folder = "";
let other: typeof own;

beforeAll(async () => {
  mkdirSync(join(root, "build"), { recursive: true });
  folder = mkdtempSync(join(root, "build/copies-")); // inside the package, where its dependencies resolve
  cpSync(join(root, "src"), join(folder, "src"), {
    recursive: true,
    filter: (path) => !/\.test\.ts$|\/(fixtures|cli)$/.test(path),
  });
  other = await import(join(folder, "src/index.ts"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** A value of one copy, with the type that the other copy has for it. */
const foreign = <T>(value: T): T => value;

describe("two copies of the package", () => {
  test("are two", () => {
    expect(other.HashStore).not.toBe(own.HashStore);
  });

  test("know each other's errors", () => {
    const error: unknown = new other.QueueEmptyError("nothing there");
    expect(error instanceof own.QueueEmptyError).toBe(true);
    expect(error instanceof own.DistStoreError).toBe(true);
    expect(error instanceof own.DistError).toBe(true);
    expect(error instanceof own.DistNetworkError).toBe(false);
    expect(error instanceof Error).toBe(true);
    class OwnError extends own.DistStoreError {}
    expect(error instanceof OwnError).toBe(false);
    expect(new OwnError("mine") instanceof OwnError).toBe(true);
    expect(new OwnError("mine") instanceof other.DistStoreError).toBe(true);
    for (const value of [undefined, null, 1, "x", {}, new Error("x")])
      expect(value instanceof own.DistError).toBe(false);
  });

  test("accept each other's stores", async () => {
    const store = new other.HashStore();
    const prefix = new own.PrefixStore("outer", new other.PrefixStore("inner", store));
    await prefix.set("key", "value");
    expect(await store.get("inner/outer/key")).toEqual(new TextEncoder().encode("value"));
    expect(prefix.underlyingNonPrefixStore as unknown).toBe(store);
    const group = await own.initProcessGroup({ backend: "fake", store: foreign(store), rank: 0, worldSize: 1 });
    expect(await group.allReduce(Float32Array.of(2))).toEqual(Float32Array.of(2));
    await own.destroyProcessGroup();
  });

  test("share the default group, and accept each other's groups, tensors and reduce ops", async () => {
    const group = await own.initProcessGroup({ backend: "fake", store: new own.HashStore(), rank: 0, worldSize: 1 });
    try {
      expect([other.isInitialized(), other.getRank(), other.getWorldSize(foreign(group))]).toEqual([true, 0, 1]);
      const options = { op: foreign(other.ReduceOp.MAX), group };
      expect(await own.allReduce(Float32Array.of(3), options)).toEqual(Float32Array.of(3));
      expect(await other.allReduce(Float32Array.of(3), { op: own.ReduceOp.premulSum(2) })).toHaveLength(1);
      const bits = other.tensor([1.5], { dtype: "bfloat16" });
      expect((await own.allReduce(foreign(bits))) as unknown).toBe(bits);
      const sparse = other.sparseTensor({ indices: [[1, 1]], values: Float32Array.of(1, 2), shape: [4] });
      const sum = await own.allReduce(foreign(sparse), { op: other.ReduceOp.SUM });
      expect([...sum.values]).toEqual([3]);
      // Refused because it is sent to this rank itself, not because of the copy that the function belongs to.
      const [work] = own.batchIsendIrecv([{ op: foreign(other.isend), tensor: Float32Array.of(1), peer: 0 }]);
      expect(await work?.then(String, String)).toContain("dst is the rank of this process itself");
      const refused = await other.broadcast(Float32Array.of(1), { src: 5 }).catch((error: unknown) => error);
      expect(refused).toBeInstanceOf(own.InvalidArgumentError);
      expect(other.allReduce(Float32Array.of(1))).toBeInstanceOf(own.Work);
    } finally {
      await other.destroyProcessGroup();
    }
    expect(own.isInitialized()).toBe(false);
  });

  test("report that they are incompatible", () => {
    const key = Symbol.for("bun-c10d.context");
    const before: unknown = Reflect.get(globalThis, key);
    Reflect.set(globalThis, key, { layout: 99 });
    try {
      expect(() => own.isInitialized()).toThrow(expect.objectContaining({ code: "VERSION_MISMATCH" }));
      expect(() => own.isInitialized()).toThrow("two incompatible versions of bun-c10d (state 99 and ");
    } finally {
      Reflect.set(globalThis, key, before);
    }
  });
});

test("bun --hot loads the package again, next to objects of the first copy", async () => {
  const script = join(folder, "hot.ts");
  const program = `
    import { writeFileSync, readFileSync } from "node:fs";
    import * as dist from ${JSON.stringify(join(folder, "src/index.ts"))};
    const kept = globalThis as any;
    kept.loads = (kept.loads ?? 0) + 1;
    if (kept.loads === 1) {
      kept.store = new dist.HashStore();
      kept.dist = dist;
      kept.group = await dist.initProcessGroup({ backend: "fake", store: kept.store, rank: 0, worldSize: 1 });
      writeFileSync(import.meta.path, readFileSync(import.meta.path, "utf8") + "\\n// changed");
    } else {
      console.log("again", kept.dist.HashStore === dist.HashStore, dist.isInitialized());
      new dist.PrefixStore("p", kept.store);
      await dist.allReduce(Float32Array.of(1), { group: kept.group, op: kept.dist.ReduceOp.MAX });
      const error = await dist.broadcast(Float32Array.of(1), { src: 5 }).catch((reason: unknown) => reason);
      console.log(error instanceof dist.InvalidArgumentError);
      await dist.destroyProcessGroup();
      process.exit(0);
    }`;
  writeFileSync(script, program);
  const child = Bun.spawn([process.execPath, "--hot", script], {
    stdout: "pipe",
    stderr: "pipe",
    timeout: 30_000,
    killSignal: "SIGKILL",
  });
  const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  expect([stdout, stderr]).toEqual(["again false true\ntrue\n", ""]);
});
