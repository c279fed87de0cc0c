import { describe, expect, test } from "bun:test";
import * as dist from "../../index.ts";
import { systemClock } from "../../registry/index.ts";
import { LocalRanksError, localRanks } from "../../testing/index.ts";

/** The errors of all ranks, by rank. */
async function errorsOf(n: number, body: (rank: number) => PromiseLike<unknown>): Promise<dist.DistError[]> {
  const error = await localRanks(n, ({ rank }) => body(rank)).catch((thrown: unknown) => thrown);
  if (!(error instanceof LocalRanksError)) throw new Error(`expected LocalRanksError, got ${String(error)}`);
  return [...error.failures].sort((a, b) => a.rank - b.rank).map(({ error }) => error as dist.DistError);
}

describe("ranks of one thread that are out of step", () => {
  const desyncs: readonly (readonly [string, (rank: number) => Promise<unknown>, string, string])[] = [
    [
      "another op",
      async (rank) => (rank === 0 ? dist.barrier() : dist.allReduce(new Int8Array(2))),
      "rank 0 called barrier()",
      "rank 1 called allReduce(int8[2], SUM)",
    ],
    ["another size", async (rank) => dist.allReduce(new Int8Array(rank + 1)), "allReduce(int8[1], SUM)", "int8[2]"],
    [
      "another dtype",
      async (rank) => dist.broadcast(rank === 0 ? new Int8Array(4) : new Float32Array(4), { src: 0 }),
      "int8[4], root 0",
      "float32[4], root 0",
    ],
    ["another root", async (rank) => dist.broadcast(new Int8Array(1), { src: rank }), "root 0", "root 1"],
    [
      "another reduce op",
      async (rank) => dist.allReduce(new Int8Array(1), { op: rank ? dist.ReduceOp.MAX : dist.ReduceOp.MIN }),
      "MIN",
      "MAX",
    ],
    [
      "splits that do not match",
      async (rank) =>
        dist.allToAllSingle(new Int8Array(rank === 0 ? 3 : 2), new Int8Array(2), {
          inputSplits: [1, 1],
          outputSplits: rank === 0 ? [1, 2] : [1, 1],
        }),
      "rank 1 sends int8[1] to rank 0, which expects int8[2]",
      "allToAllSingle",
    ],
    [
      "messages of another size",
      async (rank) => (rank === 0 ? dist.send(new Int8Array(3), { dst: 1 }) : dist.recv(new Int8Array(2), { src: 0 })),
      "rank 0 sent int8[3] with tag 0",
      "rank 1 was to receive int8[2]",
    ],
  ];

  test.each(desyncs)("%s: all ranks are notified of both", async (_, body, first, second) => {
    const errors = await errorsOf(2, body);
    expect(errors).toHaveLength(2);
    for (const error of errors) {
      expect(error).toBeInstanceOf(dist.DistBackendError);
      expect(error.code).toBe("DESYNC");
      expect(error.message).toContain(first);
      expect(error.message).toContain(second);
    }
  });
});

describe("wait() among ranks of one thread", () => {
  test("returns if the data is there, else says what to do", async () => {
    const waited = await localRanks(2, async ({ rank, store }) => {
      const tensor = Float32Array.of(rank + 1);
      if (rank === 1) await store.get("rank 0 has arrived");
      const work = dist.allReduce(tensor);
      if (rank === 1) return [work.wait(), tensor[0]];
      let thrown: unknown;
      try {
        work.wait();
      } catch (error) {
        thrown = error;
      }
      expect(thrown).toBeInstanceOf(dist.UnsupportedOperationError);
      expect(thrown).toMatchObject({ code: "WAIT_WOULD_DEADLOCK" });
      expect(String(thrown)).toContain("Await the Work instead");
      await store.set("rank 0 has arrived", "");
      await work;
      return [work.wait(), tensor[0]];
    });
    expect(waited).toEqual([
      [true, 3],
      [true, 3],
    ]);
  });

  test("delivers early what a seed would deliver later", async () => {
    const sums = await localRanks(
      2,
      async ({ rank, store }) => {
        const tensor = Float32Array.of(rank + 1);
        if (rank === 1) await store.get("rank 0 has arrived");
        const work = dist.allReduce(tensor);
        if (rank === 0) await store.set("rank 0 has arrived", "");
        if (rank === 0) await work;
        else expect([tensor[0], work.isCompleted(), work.wait()]).toEqual([2, false, true]);
        return tensor[0];
      },
      { options: { seed: 1 } },
    );
    expect(sums).toEqual([3, 3]);
  });
});

describe("a seed", () => {
  async function interleaving(seed?: number): Promise<string> {
    const events: string[] = [];
    const options = seed === undefined ? {} : { options: { seed } };
    await localRanks(
      3,
      async ({ rank }) => {
        const works = Array.from({ length: 4 }, (_, i) =>
          dist.allReduce(Float32Array.of(i)).then(() => events.push(`${rank}${i}`)),
        );
        await Promise.all(works);
      },
      options,
    );
    return events.join(" ");
  }

  test("determines in which order ops end, reproducibly", async () => {
    const orders = await Promise.all([1, 2, 3, 1].map(interleaving));
    expect(orders[3]).toBe(orders[0] ?? "");
    expect(new Set(orders).size).toBe(3);
    expect(new Set((orders[0] ?? "").split(" ")).size).toBe(12);
  });

  test("is not needed", async () => {
    expect(await interleaving()).toBe(await interleaving());
  });

  test("is the same on all ranks", async () => {
    const store = new dist.HashStore();
    const { default: plugin } = await import("./plugin.ts");
    const context = {
      store,
      size: 2,
      globalRanks: [0, 1],
      groupName: "0",
      groupDescription: "",
      timeoutMs: 200,
      clock: systemClock,
      logger: console,
    };
    const device = { type: "cpu", index: 0 } as const;
    const first = plugin.create({ ...context, device, rank: 0, options: { seed: 1 } });
    const second = plugin.create({ ...context, device, rank: 1, options: { seed: 2 } });
    expect(await second.catch((error: unknown) => error)).toMatchObject({ name: "InvalidArgumentError" });
    expect(await first.catch((error: unknown) => error)).toMatchObject({
      code: "CONNECT_TIMEOUT",
      details: { peers: [1] },
    });
  });
});

describe("failures among ranks of one thread", () => {
  test("a group that only its members make", async () => {
    const errors = await errorsOf(3, async (rank) => {
      if (rank !== 1) await dist.newGroup([0, 2], { timeout: "1s" });
      await dist.newGroup([0, 1, 2], { timeout: "1s" });
    });
    expect(errors).toHaveLength(3);
    for (const error of errors) expect(error.message).toContain("must make the same groups in the same order");
  });

  test("a time-out names the missing rank, on all ranks", async () => {
    const [late, waiting, ...rest] = await errorsOf(3, async (rank) => {
      if (rank === 0) await Bun.sleep(150);
      await dist.barrier({ timeout: 60 });
    });
    expect(rest).toHaveLength(1);
    expect(waiting).toMatchObject({ code: "OP_TIMEOUT", details: { peers: [0], seq: 1, op: "barrier" } });
    expect(waiting?.message).toContain("timed out after 60 ms; rank 0 did not arrive");
    expect(late).toMatchObject({ code: "OP_TIMEOUT", details: { peers: [0], seq: 1, op: "barrier" } });
    expect(late?.message).toMatch(/: rank \d: timed out after 60 ms; this rank did not arrive(;|$)/);
  });

  test.each<[string, (rank: number) => PromiseLike<unknown>, string]>([
    [
      "that receive from each other",
      (rank) => dist.recv(new Int8Array(1), { src: 1 - rank, tag: 3, timeout: 60 }),
      "ranks 0 and 1 waited for each other, at recv from rank 1 with tag 3 and recv from rank 0 with tag 3",
    ],
    [
      "whose tags differ",
      (rank) =>
        rank === 0
          ? dist.send(new Int8Array(1), { dst: 1, tag: 3, timeout: 60 })
          : dist.recv(new Int8Array(1), { src: 0, tag: 4, timeout: 60 }),
      "ranks 0 and 1 waited for each other, at send to rank 1 with tag 3 and recv from rank 0 with tag 4",
    ],
  ])("two ranks %s: neither is blamed", async (_, body, text) => {
    for (const error of await errorsOf(2, body)) {
      expect(error).toMatchObject({ code: "OP_TIMEOUT", details: { peers: [] } });
      expect(error.message).toContain(`timed out after 60 ms; ${text}`);
    }
  });

  test.each<[string, (rank: number) => PromiseLike<unknown>, string]>([
    [
      "a message",
      (rank) =>
        rank === 0 ? dist.recv(new Int8Array(1), { src: 2 }) : dist.barrier({ timeout: rank === 1 ? 60 : "5s" }),
      "; rank 0 did not arrive; rank 0 was at recv from rank 2 with tag 0",
    ],
    [
      "a collective",
      (rank) => (rank === 0 ? dist.recv(new Int8Array(1), { src: 1, timeout: 60 }) : dist.allReduce(new Int8Array(2))),
      " of waiting for rank 1; rank 1 was at allReduce(int8[2], SUM) as collective #1, which rank 0 has not called",
    ],
  ])(
    "a rank that is missing because it is at %s: the error of each rank says so, and blames it",
    async (_, body, text) => {
      for (const [rank, error] of (await errorsOf(3, body)).entries()) {
        const own = text.replaceAll(`rank ${rank}`, "this rank");
        expect(error.message).toContain(`timed out after 60 ms${own}`);
        expect(error.details.peers).toEqual([0]);
      }
    },
  );

  test("a rank that refused its call is reported", async () => {
    const [waiting] = await errorsOf(2, async (rank) => {
      if (rank === 1) await dist.barrier({ timeout: 60 });
      else await dist.broadcast(new Int8Array(1), { src: 5 }).catch(() => Bun.sleep(150));
    });
    expect(waiting).toMatchObject({ code: "OP_TIMEOUT", details: { peers: [0] } });
    expect(waiting?.message).toContain("timed out after 60 ms; rank 0 did not arrive; rank 0 has refused 1 call");
  });

  test("all ranks that have closed the group are named", async () => {
    const errors = await errorsOf(3, async (rank) => {
      const group = await dist.newGroup([0, 1, 2]);
      if (rank < 2) return await group?.close();
      await Bun.sleep(20);
      await group?.barrier();
    });
    expect(errors).toHaveLength(1);
    expect(errors[0]).toMatchObject({ code: "PEER_LOST", details: { peers: [0, 1] } });
    expect(errors[0]?.message).toContain("rank 0 closed the group, rank 1 closed the group before they called this op");
  });

  test("ranks that close the group are named", async () => {
    const [error] = await errorsOf(2, async (rank) => {
      if (rank === 0) await dist.recv(new Int8Array(1), { src: 1 });
    });
    expect(error).toMatchObject({ code: "PEER_LOST", details: { peers: [1] } });
  });

  test("a buffer that is gone when the data arrives is reported", async () => {
    const errors = await errorsOf(2, async (rank) => {
      const tensor = new Float32Array(4);
      const work = dist.broadcast(tensor, { src: 1 });
      if (rank === 0) structuredClone(tensor, { transfer: [tensor.buffer] });
      await work;
    });
    expect(errors.length).toBeGreaterThan(0);
    expect(errors[0]?.message).toMatch(/detached/i);
  });

  test("a rank in another process is refused with a reason", async () => {
    const store = new dist.HashStore();
    const { meetInThread } = await import("./exchange/meeting.ts");
    await store.set("fake/exchange", "12345/elsewhere");
    const error = await meetInThread(
      { store, rank: 1, size: 2, groupName: "0", timeoutMs: 100, clock: systemClock },
      undefined,
    ).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: "BackendUnavailableError", code: "RANKS_APART" });
    expect(String(error)).toContain("localRanks()");
  });
});

test("foreign memory takes part", async () => {
  const { ptr } = await import("bun:ffi");
  const sums = await localRanks(2, async ({ rank }) => {
    const memory = Float32Array.of(rank + 1, 5);
    const foreign = {
      [Symbol.for("c10d.tensor")]: () => ({ ptr: Number(ptr(memory)), byteLength: 8, dtype: "float32" as const }),
    };
    await dist.allReduce(foreign as dist.TensorLike);
    return [...memory];
  });
  expect(sums).toEqual([
    [3, 10],
    [3, 10],
  ]);
});
