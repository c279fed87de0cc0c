import { expect } from "bun:test";
import { runInNewContext } from "node:vm";
import { InvalidArgumentError } from "../../errors/index.ts";
import type { Store, StoreValue } from "../../store/index.ts";

type Declare = (title: string, body: (store: Store) => Promise<void>) => void;

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

/** Memory in which a caller may have bytes. */
const memories: readonly { readonly name: string; readonly make: (content: string) => Uint8Array }[] = [
  { name: "a Buffer", make: (content) => Buffer.from(content) },
  { name: "a subarray", make: (content) => new TextEncoder().encode(`<${content}>`).subarray(1, -1) },
  { name: "shared memory", make: (content) => fill(new Uint8Array(new SharedArrayBuffer(content.length)), content) },
  { name: "another realm", make: (content) => fill(runInNewContext(`new Uint8Array(${content.length})`), content) },
  { name: "a subclass whose length lies", make: (content) => fill(new Lying(content.length), content) },
];

class Lying extends Uint8Array {
  override get length(): number {
    return 999;
  }
}

class Hiding extends Uint8Array<ArrayBuffer> {
  override get buffer(): ArrayBuffer {
    return new ArrayBuffer(0);
  }
}

/** Calls that write a value, and how it is read. */
const writes: readonly {
  readonly op: string;
  readonly write: (store: Store, value: StoreValue) => Promise<unknown>;
  readonly read?: (store: Store) => Promise<Uint8Array>;
}[] = [
  { op: "set", write: (store, value) => store.set("k", value) },
  { op: "compareSet", write: (store, value) => store.compareSet("k", "", value) },
  { op: "append", write: (store, value) => store.append("k", value) },
  { op: "multiSet", write: (store, value) => store.multiSet(["other", "k"], ["", value]) },
  {
    op: "queuePush",
    write: (store, value) => store.queuePush("k", value),
    read: (store) => store.queuePop("k", { timeout: 5_000 }),
  },
];

/** Calls that return a value, which is "there" under the key "k". */
const reads: readonly { readonly op: string; readonly read: (store: Store) => Promise<Uint8Array | undefined> }[] = [
  { op: "get", read: (store) => store.get("k") },
  { op: "multiGet", read: async (store) => (await store.multiGet(["k"]))[0] },
  { op: "compareSet that does nothing", read: (store) => store.compareSet("k", "other", "x") },
  { op: "compareSet that sets", read: (store) => store.compareSet("k", "there", "there") },
];

/** Tests that callers and the store share no memory, whatever kind it is. */
export function declareCallerMemory(it: Declare): void {
  for (const { op, write, read = (store: Store) => store.get("k") } of writes) {
    it(`${op} takes the bytes as they are at the call, of any memory`, async (store) => {
      for (const { name, make } of memories) {
        const value = make("bytes");
        const writing = write(store, value);
        value.fill(0x58);
        await writing;
        value.fill(0x59);
        expect([name, text(await read(store))]).toEqual([name, "bytes"]);
        await store.deleteKey("k");
      }
    });

    it(`${op} refuses what is neither bytes nor text`, async (store) => {
      const detached = new Uint8Array(4);
      detached.buffer.transfer();
      const hidden = new ArrayBuffer(4);
      const hiding = new Hiding(hidden);
      hidden.transfer();
      const otherViews = [new DataView(new ArrayBuffer(4)), new Uint16Array(2), new ArrayBuffer(4)];
      const bad = [...otherViews, [1, 2], 7, null, detached, hiding];
      for (const value of bad as unknown as Uint8Array[]) {
        const error = await write(store, value).then(
          () => undefined,
          (reason: unknown) => reason,
        );
        expect(error).toBeInstanceOf(InvalidArgumentError);
      }
      expect(await store.check(["k"])).toBe(false);
    });
  }

  it("expected bytes that the caller changes are compared as they were", async (store) => {
    await store.set("k", "old");
    const expected = Buffer.from("old");
    const swap = store.compareSet("k", expected, "new");
    expected.fill(0);
    expect(text(await swap)).toBe("new");
  });

  it("a compareSet of an absent key hands out no memory of the caller", async (store) => {
    const expected = Buffer.from("absent");
    const answer = await store.compareSet("k", expected, "x");
    expect(text(answer)).toBe("absent");
    answer.fill(0);
    expect(expected.toString()).toBe("absent");
  });

  for (const { op, read } of reads) {
    it(`${op} hands out a copy`, async (store) => {
      for (const put of [() => store.set("k", Buffer.from("there")), () => appended(store)]) {
        await put();
        (await read(store))?.fill(0x5a);
        expect(text(await store.get("k"))).toBe("there");
      }
    });
  }

  it("a list of keys that the caller changes is waited for as it was", async (store) => {
    const keys = ["a", "b"];
    const [waiting, values] = [store.wait(keys), store.multiGet(keys)];
    keys.length = 0;
    keys.push("never");
    await store.multiSet(["a", "b"], ["1", "2"]);
    await waiting;
    expect((await values).map(text)).toEqual(["1", "2"]);
  });
}

async function appended(store: Store): Promise<void> {
  await store.deleteKey("k");
  await store.append("k", Buffer.from("the"));
  await store.append("k", Buffer.from("re"));
}

function fill(bytes: Uint8Array, content: string): Uint8Array {
  for (let i = 0; i < content.length; i++) bytes[i] = content.charCodeAt(i);
  return bytes;
}
