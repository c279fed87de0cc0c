import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { rendezvous } from "../../src/distributed/index.ts";
import { FileStore } from "../../src/store/index.ts";
import type { PeerReply } from "./fixtures/file-store-peer.ts";
import { PythonPeer } from "./python-store.ts";
import { describeWithTorch, fixture } from "./torch.ts";

/** The ops that all three have, by our names. */
interface Participant {
  set(key: string, value: string): Promise<unknown>;
  get(key: string): Promise<Uint8Array>;
  add(key: string, amount: number): Promise<number>;
  check(keys: string[]): Promise<boolean>;
  compareSet(key: string, expected: string, desired: string): Promise<Uint8Array>;
  deleteKey(key: string): Promise<boolean>;
  wait(keys: string[]): Promise<unknown>;
  append(key: string, value: string): Promise<unknown>;
  multiGet(keys: string[]): Promise<Uint8Array[]>;
  multiSet(keys: string[], values: string[]): Promise<unknown>;
  barrier(key: string, worldSize: number): Promise<unknown>;
  numKeys(): Promise<number>;
  listKeys(): Promise<string[]>;
  close(): Promise<unknown>;
}

const limitMs = 20_000;
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const names = Array.from({ length: 100 }, (_, i) => i);

describeWithTorch("FileStore with PyTorch", (executable) => {
  const folder = mkdtempSync(join(tmpdir(), "file-store-interop-"));
  let python: PythonPeer;
  let files = 0;
  const pythons = new Set<Participant>();
  const cleanups: (() => unknown)[] = [];

  beforeAll(async () => {
    python = await PythonPeer.start(executable);
  });
  afterAll(async () => {
    await python[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  });

  test("file:// names the same file", async () => {
    const urls = ["a%20b", "100%", "a;b", "ä b", "q\\r"].map((name) => `file://${join(folder, name)}`);
    const paths: string[] = [];
    for (const url of urls) {
      const name = `rendezvous ${url}`;
      paths.push((await python.call(name, "rendezvous_file", [`${url}?rank=1&world_size=2`])) as string);
      await python.call(name, "set", ["k", "v"]);
      cleanups.push(() => python.call(name, "close", []));
    }
    for (const [i, url] of urls.entries()) {
      const { store } = await rendezvous(url, { rank: 0, worldSize: 2, timeout: limitMs });
      cleanups.push(() => store.close());
      expect((store as FileStore).path).toBe(paths[i] ?? "");
    }
  });

  const newPath = () => join(folder, `store ${files++}`);

  async function openPython(path: string, worldSize = -1): Promise<Participant> {
    const name = `file ${path} ${files++}`;
    const call =
      (op: string) =>
      (...args: (string | number | string[])[]) =>
        python.call(name, op, args) as Promise<never>;
    await call("open_file")(path, worldSize, limitMs);
    const close = call("close");
    cleanups.push(() => close());
    const store: Participant = {
      set: call("set"),
      get: call("get"),
      add: call("add"),
      check: call("check"),
      compareSet: call("compare_set"),
      deleteKey: call("delete_key"),
      wait: call("wait"),
      append: call("append"),
      multiGet: call("multi_get"),
      multiSet: call("multi_set"),
      barrier: (key, worldSize) => call("barrier")(key, worldSize, limitMs),
      numKeys: call("num_keys"),
      listKeys: call("list_keys"),
      close,
    };
    pythons.add(store);
    return store;
  }

  async function openBun(path: string, worldSize = -1): Promise<FileStore> {
    const store = await FileStore.open(path, worldSize, { timeout: limitMs });
    cleanups.push(() => store.close().catch(() => {}));
    return store;
  }

  /** A separate Bun process. */
  async function openOtherBun(path: string, worldSize = -1): Promise<Participant> {
    const calls = new Map<number, PromiseWithResolvers<never>>();
    const opened = Promise.withResolvers<never>();
    calls.set(0, opened);
    const child = Bun.spawn([process.execPath, fixture("file-store-peer.ts"), path, String(worldSize)], {
      serialization: "advanced",
      stdio: ["ignore", "inherit", "inherit"],
      ipc({ id, value, error }: PeerReply) {
        const call = calls.get(id);
        calls.delete(id);
        if (error === undefined) call?.resolve(value as never);
        else call?.reject(error);
      },
      onExit() {
        for (const call of calls.values()) call.reject(new Error("the Bun process has ended"));
      },
    });
    cleanups.push(async () => {
      child.kill("SIGKILL");
      await child.exited;
    });
    await opened.promise;
    let lastId = 0;
    const call = (op: string | symbol, args: unknown[]) => {
      const answer = Promise.withResolvers<never>();
      calls.set(++lastId, answer);
      child.send({ id: lastId, op, args });
      return answer.promise;
    };
    return new Proxy({} as Participant, {
      // It is returned through an `await`, which looks for a `then`.
      get: (_, op) => (op === "then" ? undefined : (...args: unknown[]) => call(op, args)),
    });
  }

  /** One Python and two Bun processes on one file. */
  async function openAll(path: string, worldSize?: number): Promise<[Participant, FileStore, Participant]> {
    return [await openPython(path, worldSize), await openBun(path, worldSize), await openOtherBun(path, worldSize)];
  }

  test("we write the same bytes as PyTorch", async () => {
    const [ours, theirs] = [newPath(), newPath()];
    for (const [path, open] of [
      [ours, openBun],
      [theirs, openPython],
    ] as const) {
      const store: Participant = await open(path);
      await store.set("k", "größe");
      await store.add("c", 5);
      await store.add("c", -7);
      await store.compareSet("k", "größe", "small");
      await store.compareSet("new", "", "1");
      await store.compareSet("other", "x", "1");
      await store.deleteKey("k");
      await store.multiSet(["x", "y"], ["1", ""]);
      await store.append("x", "2");
      await store.barrier("b", 1);
      await store.close();
    }
    expect(readFileSync(ours).toString("latin1")).toBe(readFileSync(theirs).toString("latin1"));
  });

  test("each sees the effects of the others", async () => {
    const all = await openAll(newPath());
    for (const [i, writer] of all.entries()) {
      const key = `of ${i}`;
      for (const step of [
        () => writer.set(key, "größe"),
        () => writer.append(key, "+"),
        () => writer.multiSet([`${key} a`, `${key} b`], ["1", "2"]),
        () => writer.add(`${key} n`, 2 ** 40),
        () => writer.compareSet(`${key} n`, "1", "2"),
      ]) {
        await step();
      }
      for (const reader of all) {
        expect(text(await reader.get(key))).toBe("größe+");
        expect((await reader.multiGet([`${key} b`, `${key} a`])).map(text)).toEqual(["2", "1"]);
        expect(await reader.add(`${key} n`, 0)).toBe(2 ** 40);
        expect(text(await reader.compareSet(key, "no", "x"))).toBe("größe+");
      }
      expect(await writer.deleteKey(key)).toBe(true);
      for (const reader of all) expect(await reader.check([key])).toBe(false);
      for (const reader of all.slice(1)) expect(await reader.deleteKey(key)).toBe(false);
    }
    const [python, bun, otherBun] = all;
    expect(await bun.numKeys()).toBe(await python.numKeys());
    // PyTorch also lists its own counter, without the first letter.
    const listed = (await python.listKeys()).filter((key) => key !== "efcount/").sort();
    expect((await bun.listKeys()).sort()).toEqual(listed);
    expect((await otherBun.listKeys()).sort()).toEqual(listed);
  });

  test("each wakes the others", async () => {
    const all = await openAll(newPath());
    for (const [i, writer] of all.entries()) {
      const others = all.filter((each) => each !== writer);
      const key = `late ${i}`;
      const waiting = others.map(async (each) => {
        await each.wait([key, `${key} too`]);
        return text(await each.get(key));
      });
      await Bun.sleep(30);
      await writer.multiSet([key, `${key} too`], ["v", ""]);
      expect(await Promise.all(waiting)).toEqual(["v", "v"]);
    }
  });

  test("barrier", async () => {
    const all = await openAll(newPath());
    for (let round = 0; round < 5; round++) {
      await Promise.all(all.map((each) => each.barrier(`round ${round}`, 3)));
    }
  });

  test("concurrent calls: no sum is lost, and one compareSet of each round wins", async () => {
    const all = await openAll(newPath());
    const sums = await Promise.all(all.flatMap((each) => names.map(() => each.add("n", 1))));
    expect(sums.sort((a, b) => a - b)).toEqual(Array.from({ length: 300 }, (_, i) => i + 1));
    for (const round of names.slice(0, 20)) {
      const seen = await Promise.all(all.map((each, i) => each.compareSet(`round ${round}`, "", String(i))));
      expect(new Set(seen.map(text)).size).toBe(1);
    }
    const [, ...buns] = all;
    await Promise.all(buns.flatMap((each, i) => names.map(() => each.append("log", `${i}`))));
    expect(
      text(await all[0].get("log"))
        .split("")
        .sort()
        .join(""),
    ).toBe("0".repeat(100) + "1".repeat(100));
  });

  test.each([0, 1, 2])("the last of them to close removes the file: %d closes last", async (last) => {
    const path = newPath();
    const all = await openAll(path, 3);
    await all[0].set("k", "v");
    const order = [...all.keys()].filter((i) => i !== last);
    for (const i of order) await all[i]?.close();
    expect(existsSync(path)).toBe(true);
    await all[last]?.close();
    expect(existsSync(path)).toBe(false);
  });

  test("our queues do not disturb PyTorch", async () => {
    const [python, bun, otherBun] = await openAll(newPath());
    await bun.queuePush("q", "1");
    await python.set("k", "v");
    await bun.queuePush("q", "2");
    expect(await python.check(["q"])).toBe(false);
    expect(await python.deleteKey("k")).toBe(true);
    expect(text(await bun.queuePop("q"))).toBe("1");
    expect(await otherBun.check(["q", "k"])).toBe(false);
    expect(await otherBun.check(["q"])).toBe(true);
  });

  test("a torn record is cut off before PyTorch reads it", async () => {
    const path = newPath();
    const bun = await openBun(path);
    await bun.set("k", "v");
    const { size } = statSync(path);
    writeFileSync(path, "\x02\0\0\0/k\x09\0\0\0torn", { flag: "a" });
    await bun.set("l", "w");
    expect(statSync(path).size).toBeGreaterThan(size);
    const python = await openPython(path);
    expect((await python.multiGet(["k", "l"])).map(text)).toEqual(["v", "w"]);
    await python.set("k", "x");
    expect(text(await bun.get("k"))).toBe("x");
  });

  test("random histories agree with a map", async () => {
    const key = fc.constantFrom("a", "b", "ключ");
    const value = fc.constantFrom("", "1", "-7", "x", "größe");
    const who = fc.nat({ max: 2 });
    type Step = (store: Participant, model: Map<string, string>) => Promise<void>;
    const step: fc.Arbitrary<Step> = fc.oneof(
      fc.tuple(key, value).map(
        ([k, v]): Step =>
          async (store, model) => {
            await store.set(k, v);
            model.set(k, v);
          },
      ),
      fc.tuple(key, fc.integer({ min: -9, max: 9 })).map(
        ([k, n]): Step =>
          async (store, model) => {
            const current = model.get(k) ?? "";
            if (current !== "" && !/^-?\d+$/.test(current)) return;
            expect(await store.add(k, n)).toBe(Number(current) + n);
            model.set(k, String(Number(current) + n));
          },
      ),
      fc.tuple(key, value, value).map(
        ([k, e, v]): Step =>
          async (store, model) => {
            const current = model.get(k);
            const sets = (current ?? "") === e;
            expect(text(await store.compareSet(k, e, v))).toBe(sets ? v : (current ?? e));
            if (sets) model.set(k, v);
          },
      ),
      key.map(
        (k): Step =>
          async (store, model) => {
            const was = model.delete(k);
            // PyTorch also says so for keys that never existed.
            expect(await store.deleteKey(k)).toBe(pythons.has(store) || was);
          },
      ),
      fc.tuple(key, value).map(
        ([k, v]): Step =>
          async (store, model) => {
            // PyTorch takes existing bytes for its own.
            if (pythons.has(store) && model.get(k) === v) return;
            await store.append(k, v);
            model.set(k, (model.get(k) ?? "") + v);
          },
      ),
      fc.array(fc.tuple(key, value), { maxLength: 3 }).map(
        (pairs): Step =>
          async (store, model) => {
            await store.multiSet(
              pairs.map(([k]) => k),
              pairs.map(([, v]) => v),
            );
            for (const [k, v] of pairs) model.set(k, v);
          },
      ),
      fc.array(key, { maxLength: 3 }).map(
        (keys): Step =>
          async (store, model) => {
            const there = keys.every((k) => model.has(k));
            expect(await store.check(keys)).toBe(there);
            if (there) expect((await store.multiGet(keys)).map(text)).toEqual(keys.map((k) => model.get(k) ?? ""));
          },
      ),
    );
    const all = await openAll(newPath());
    const model = new Map<string, string>();
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(who, step), { minLength: 5, maxLength: 40 }), async (steps) => {
        for (const [i, run] of steps) await run(all[i] ?? all[0], model);
      }),
      { numRuns: 60, endOnFailure: true },
    );
  }, 60_000);
});
