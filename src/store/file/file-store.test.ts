import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DistStoreError, DistTimeoutError, InvalidArgumentError } from "../../errors/index.ts";
import { testStore } from "../../testing/store-suite/store-suite.ts";
import { FileStore } from "./file-store.ts";
import { decodeRecords, encodeRecords } from "./record.ts";

const folder = mkdtempSync(join(tmpdir(), "file-store-"));
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
const newPath = () => join(folder, `store ${files++}`);

testStore("FileStore", { open: () => FileStore.open(newPath(), 1) });

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function open(path: string, worldSize?: number): Promise<FileStore> {
  const store = await FileStore.open(path, worldSize, { timeout: 20_000 });
  cleanups.push(() => store.close().catch(() => {}));
  return store;
}

/** Starts a process that uses the file and waits until it has started; it is killed at the end of the test. */
async function start(mode: string, path: string, name = "") {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "../fixtures/file-writer.ts"), mode, path, name], {
    stdout: "pipe",
    stderr: "inherit",
  });
  const kill = async () => {
    child.kill("SIGKILL");
    await child.exited;
  };
  cleanups.push(kill);
  for await (const _ of child.stdout) break;
  return { child, kill };
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const hex = (path: string) => readFileSync(path).toString("hex");

/** The records of a file, and how many of its bytes are in them. */
function recordsOf(bytes: Buffer) {
  const records: [string, string][] = [];
  const { consumed } = decodeRecords(bytes, ({ key, value }) => records.push([key, text(value)]));
  return { records, consumed };
}

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => {
      throw new Error("expected a rejection");
    },
    (error: unknown) => error,
  );
}

describe("the file", () => {
  test("is PyTorch's, to the byte", async () => {
    const path = newPath();
    const store = await open(path);
    const written = ["09000000726566636f756e742f0100000031"];
    expect(hex(path)).toBe(written.join(""));
    const steps: [() => Promise<unknown>, string][] = [
      [() => store.set("k", "ab"), "020000002f6b020000006162"],
      [() => store.deleteKey("k"), "030000002d2f6b00000000"],
      [() => store.add("c", 5), "020000002f630100000035"],
      [() => store.compareSet("c", "5", "5"), "020000002f630100000035"],
      [() => store.deleteKey("k"), ""],
      [() => store.compareSet("c", "4", "6"), ""],
      [() => store.multiSet(["x", "y"], ["1", ""]), "020000002f780100000031020000002f7900000000"],
      [() => store.append("x", "2"), "020000002f78020000003132"],
    ];
    for (const [step, record] of steps) {
      await step();
      written.push(record);
      expect(hex(path)).toBe(written.join(""));
    }
    await store.close();
    expect(recordsOf(readFileSync(path)).records.slice(-2)).toEqual([
      ["cleanup/", "1"],
      ["refcount/", "0"],
    ]);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test("the store's own keys count, but are not listed", async () => {
    const store = await open(newPath());
    expect(await store.numKeys()).toBe(1);
    await store.set("cleanup/", "mine");
    expect(await store.listKeys()).toEqual(["cleanup/"]);
    expect(await store.check(["refcount/"])).toBe(false);
  });

  test("is removed by the last of worldSize handles", async () => {
    const path = newPath();
    const first = await open(path, 2);
    await first.close();
    expect(existsSync(path)).toBe(true);
    const [second, third] = [await open(path, 2), await open(path, 2)];
    await second.close();
    await second.close();
    expect(existsSync(path)).toBe(true);
    await third.close();
    expect(existsSync(path)).toBe(false);
  });

  test("stays with its contents without a world size", async () => {
    const path = newPath();
    for (const worldSize of [undefined, -1]) {
      const store = await open(path, worldSize);
      await store.add("n", 1);
      await store.close();
    }
    expect(text(await (await open(path)).get("n"))).toBe("2");
  });

  test("a clone counts as a handle", async () => {
    const path = newPath();
    const store = await open(path, 1);
    const twin = await store.clone();
    expect(twin.path).toBe(path);
    await store.close();
    expect(existsSync(path)).toBe(true);
    await twin.close();
    expect(existsSync(path)).toBe(false);
  });

  test("was removed and created again: the old contents are not seen, and close does not change the new file", async () => {
    const path = newPath();
    const [old, waiter] = [await open(path, 1), await open(path)];
    await old.set("k", "old");
    const waiting = waiter.get("later");
    await Bun.sleep(20);
    unlinkSync(path);
    expect(await old.check(["k"])).toBe(false);
    expect(existsSync(path)).toBe(false);
    const fresh = await open(path);
    await fresh.set("later", "v");
    expect(text(await waiting)).toBe("v");
    expect(await old.listKeys()).toEqual(["later"]);
    const before = hex(path);
    await old.close();
    expect(hex(path)).toBe(before);
  });

  test("a value of many chunks", async () => {
    const path = newPath();
    const [one, other] = [await open(path), await open(path)];
    const value = new Uint8Array(5_000_003).map((_, i) => i);
    await one.multiSet(["a", "long", "b"], ["1", value, "2"]);
    expect(Buffer.compare(await other.get("long"), value)).toBe(0);
    expect(text(await other.get("b"))).toBe("2");
  });

  test("bad arguments", async () => {
    for (const path of ["", "a\0b", 5 as unknown as string]) {
      expect(await rejection(FileStore.open(path))).toBeInstanceOf(InvalidArgumentError);
    }
    for (const worldSize of [0, 1.5, Number.NaN]) {
      expect(await rejection(FileStore.open(newPath(), worldSize))).toBeInstanceOf(InvalidArgumentError);
    }
    expect(await rejection(FileStore.open(newPath(), 1, { timeout: 0 }))).toBeInstanceOf(InvalidArgumentError);
    expect(await rejection(FileStore.open(newPath(), 1, { signal: AbortSignal.abort("no") }))).toBe("no");
  });

  test("a missing folder, and a folder in place of the file", async () => {
    const path = join(newPath(), "file");
    const error = await rejection(FileStore.open(path));
    expect(error).toBeInstanceOf(DistStoreError);
    expect(error).toMatchObject({ code: "STORE_IO" });
    expect(String(error)).toContain(path);
    expect(await rejection(FileStore.open(folder))).toMatchObject({ code: "STORE_IO" });
  });

  test.each(["#!/bin/sh\necho hello\n", "ab", "\x09\0\0\0refuse", "long/and more", "\0\0\0\0", "\xff".repeat(30)])(
    "another kind of file is not changed: %p",
    async (content) => {
      const path = newPath();
      writeFileSync(path, content, "latin1");
      const error = await rejection(FileStore.open(path));
      expect(error).toMatchObject({ code: "STORE_CORRUPT" });
      expect(String(error)).toContain(path);
      expect(readFileSync(path, "latin1")).toBe(content);
    },
  );

  test("a pipe is refused, and blocks nobody", async () => {
    const path = newPath();
    Bun.spawnSync(["mkfifo", path]);
    for (const worldSize of [undefined, 2]) {
      expect(await rejection(FileStore.open(path, worldSize))).toMatchObject({ code: "STORE_CORRUPT" });
    }
  });
});

describe("a writer that died", () => {
  const whole = encodeRecords([
    { key: "refcount/", value: Buffer.from("1") },
    { key: "/a", value: Buffer.from("first") },
    { key: "/b", value: Buffer.from("x".repeat(20)) },
    { key: "-/a", value: Buffer.alloc(0) },
    { key: "/a", value: Buffer.from("second") },
  ]);

  test("at any byte: complete records are kept, the rest is truncated, and the store still works", async () => {
    for (let length = 0; length < whole.length; length++) {
      const path = newPath();
      const bytes = Buffer.from(whole.subarray(0, length));
      writeFileSync(path, bytes);
      const expected = new Map<string, string>();
      for (const [key, value] of recordsOf(bytes).records) {
        if (key.startsWith("-")) expected.delete(key.slice(1));
        else expected.set(key, value);
      }
      const store = await FileStore.open(path);
      for (const key of ["a", "b"]) expect(await store.check([key])).toBe(expected.has(`/${key}`));
      await store.set("after", "v");
      await store.close();
      const { records, consumed } = recordsOf(readFileSync(path));
      expect(consumed).toBe(statSync(path).size);
      expect(records).toContainEqual(["/after", "v"]);
    }
  });

  test("readers skip the torn record and truncate it, before PyTorch's readers hang at it", async () => {
    const path = newPath();
    const store = await open(path);
    const waiting = store.get("later");
    const { size } = statSync(path);
    writeFileSync(path, "\x02\0\0\0/k\x09\0\0\0torn", { flag: "a" });
    expect(await store.check(["k"])).toBe(false);
    for (let i = 0; i < 200 && statSync(path).size !== size; i++) await Bun.sleep(5);
    expect(statSync(path).size).toBe(size);
    await (await open(path)).set("later", "v");
    expect(text(await waiting)).toBe("v");
  });

  test("another process wrote after the torn record: an error, no misreading", async () => {
    const path = newPath();
    const store = await open(path);
    await store.set("k", "v");
    // What PyTorch's `set` does, which does not look at the end of the file.
    const blind = encodeRecords([{ key: "/b", value: Buffer.from("w") }]);
    writeFileSync(path, Buffer.concat([Buffer.from("\x02\0\0\0/k\x09\0\0\0torn"), blind, blind, blind]), { flag: "a" });
    expect(await rejection(store.get("k"))).toMatchObject({ code: "STORE_CORRUPT" });
    expect(await rejection(store.set("k", "w"))).toMatchObject({ code: "STORE_CORRUPT" });
  });

  test("killed at random moments", async () => {
    const path = newPath();
    const store = await open(path);
    for (let round = 0; round < 6; round++) {
      const { kill } = await start("flood", path);
      await Bun.sleep(20 + round * 7);
      await kill();
      await store.set("round", String(round));
      const keys = ["k0", "k1", "k2", "k3"];
      for (const key of keys) {
        if (!(await store.check([key]))) continue;
        const value = await store.get(key);
        expect(value.every((byte) => byte === value[0])).toBe(true);
      }
      const bytes = readFileSync(path);
      expect(recordsOf(bytes).consumed).toBe(bytes.length);
    }
  });
});

describe("several processes", () => {
  test("lose nothing", async () => {
    const path = newPath();
    const names = ["a", "b", "c", "d"];
    const store = await open(path);
    const children = await Promise.all(names.map((name) => start("mix", path, name)));
    const elements: string[] = [];
    for (let i = 0; i < 400; i++) elements.push(text(await store.queuePop("queue", { timeout: 30_000 })));
    expect(await Promise.all(children.map(({ child }) => child.exited))).toEqual([0, 0, 0, 0]);
    expect(text(await store.get("count"))).toBe("400");
    const log = text(await store.get("log")).split(";");
    for (const name of names) {
      expect(log.filter((each) => each === name)).toHaveLength(100);
      // Those of one process are in order.
      const own = elements.filter((element) => element.startsWith(name));
      expect(own).toEqual(Array.from({ length: 100 }, (_, i) => `${name} ${i}`));
    }
    expect(text(await store.get("owner"))).toBe("");
    expect(await store.queueLen("queue")).toBe(0);
  });

  test("an idle store does not keep the process alive", async () => {
    const path = newPath();
    const { child } = await start("leave", path);
    expect(await child.exited).toBe(0);
    expect(text(await (await open(path)).get("k"))).toBe("v");
  });

  test("another process holds the lock: calls wait without blocking, and end by time-out, signal or close", async () => {
    const path = newPath();
    const store = await open(path);
    await store.set("k", "v");
    const { child } = await start("hold", path);
    // Nothing has changed, so the lock is not needed.
    expect(text(await store.get("k"))).toBe("v");
    let ticks = 0;
    const ticking = setInterval(() => ticks++, 2);
    const started = performance.now();
    const late = await rejection(store.set("k", "w", { timeout: 60 }));
    expect(performance.now() - started).toBeWithin(55, 1_000);
    clearInterval(ticking);
    expect(ticks).toBeGreaterThan(5);
    expect(late).toBeInstanceOf(DistTimeoutError);
    expect(late).toMatchObject({ code: "STORE_TIMEOUT", details: { op: "set", keys: ["k"], timeoutMs: 60 } });
    expect(String(late)).toContain(path);
    // If the system reports which process holds it.
    if (existsSync("/proc/locks")) expect(String(late)).toContain(`process ${child.pid} (`);
    expect(await rejection(FileStore.open(path, 1, { timeout: 30 }))).toMatchObject({ code: "STORE_TIMEOUT" });

    const controller = new AbortController();
    const aborted = rejection(store.add("n", 1, { signal: controller.signal }));
    await Bun.sleep(10);
    controller.abort("enough");
    expect(await aborted).toBe("enough");

    const pending = rejection(store.add("n", 1));
    const closing = rejection(store.close());
    expect(await pending).toMatchObject({ code: "STORE_CLOSED" });
    expect(await closing).toMatchObject({ code: "STORE_TIMEOUT", details: { op: "close" } });
  });

  test("the lock is released: calls continue in order", async () => {
    const path = newPath();
    const store = await open(path);
    const { kill } = await start("hold", path);
    const sums = Array.from({ length: 10 }, () => store.add("n", 1));
    await Bun.sleep(30);
    await kill();
    expect(await Promise.all(sums)).toEqual(Array.from({ length: 10 }, (_, i) => i + 1));
  });
});
