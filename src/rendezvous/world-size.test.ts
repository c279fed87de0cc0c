import { describe, expect, test } from "bun:test";
import { HashStore } from "../store/index.ts";
import { maxLookMs } from "./disagreement.ts";
import { agreeOnWorldSize, watchForMismatch, whileAgreed } from "./world-size.ts";

const mismatch = { code: "WORLD_SIZE_MISMATCH" };
const never = new Promise<never>(() => {});

test.each([
  [0, 1],
  [1, 0],
])("rank %d joins before rank %d: both get the same message", async (early, late) => {
  const store = new HashStore();
  const membership = (rank: number) => ({ rank, worldSize: rank === 0 ? 3 : 2 });
  await agreeOnWorldSize(store, membership(early));
  const watching = watchForMismatch(store, membership(early), {});
  for (const call of [agreeOnWorldSize(store, membership(late)), watching]) {
    const error = await call.then(undefined, (reason: unknown) => reason);
    expect(String(error)).toContain("rank 0 has 3, rank 1 has 2.");
    expect(error).toMatchObject({ ...mismatch, details: { rank: late, peers: [early] } });
  }
});

describe("whileAgreed", () => {
  test("resolves and rejects as the connection does", async () => {
    const store = new HashStore();
    const early = { rank: 0, worldSize: 2 };
    expect(await whileAgreed(store, early, Promise.resolve(5))).toBe(5);
    const slow = Bun.sleep(250).then(() => 6);
    expect(await whileAgreed(store, early, slow)).toBe(6);
    await expect(whileAgreed(store, early, Promise.reject(new Error("refused")))).rejects.toThrow("refused");
  });

  test.each([0, 300])("a rank that disagrees after %d ms ends it", async (delayMs) => {
    const store = new HashStore();
    const early = { rank: 0, worldSize: 2 };
    await agreeOnWorldSize(store, early);
    const started = performance.now();
    const waiting = whileAgreed(store, early, never);
    await Bun.sleep(delayMs);
    await expect(agreeOnWorldSize(store, { rank: 2, worldSize: 3 })).rejects.toMatchObject(mismatch);
    const error = await waiting.catch((reason: unknown) => reason);
    expect(error).toMatchObject(mismatch);
    expect(String(error)).toContain("rank 0 has 2, rank 2 has 3");
    expect(performance.now() - started).toBeLessThan(delayMs + maxLookMs + 2_000);
  });

  test("what an earlier attempt left does not count", async () => {
    const store = new HashStore();
    await agreeOnWorldSize(store, { rank: 0, worldSize: 2 });
    await agreeOnWorldSize(store, { rank: 1, worldSize: 3 }).catch(() => {});
    const again = { rank: 0, worldSize: 2, attempt: "1" };
    await agreeOnWorldSize(store, again);
    const slow = Bun.sleep(300).then(() => "met");
    expect(await whileAgreed(store, again, slow)).toBe("met");
  });

  test("if the store fails, the connection decides", async () => {
    const store = new HashStore();
    const slow = Bun.sleep(300).then(() => "met");
    const waiting = whileAgreed(store, { rank: 0, worldSize: 2 }, slow);
    await store.close();
    expect(await waiting).toBe("met");
  });
});
