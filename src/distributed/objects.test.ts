import { describe, expect, test } from "bun:test";
import * as dist from "../index.ts";
import { BACKEND_MIDDLEWARE, createContainer, type Middleware } from "../registry/index.ts";
import { type LocalRank, localRanks } from "../testing/index.ts";

/** Numbers that identify their rank, in arrays of different lengths, which need padding. */
const objectOf = (rank: number) => ({
  rank,
  list: Array.from({ length: rank * 50 }, (_, i) => i),
  name: `rank ${rank}`,
});

async function errorOf(work: PromiseLike<unknown>): Promise<dist.DistError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof dist.DistError) return error;
    throw error;
  }
  throw new Error("it did not fail");
}

describe("object collectives", () => {
  test("a call without options is refused by the name that was called", async () => {
    await localRanks(1, async () => {
      const call = dist.broadcastObject as unknown as (object: object) => PromiseLike<unknown>;
      const error = await errorOf(call({}));
      expect(error.message).toBe(
        "broadcastObject: options must be an object, got undefined; write for instance { src: 0 }",
      );
    });
  });

  test.each([1, 2, 3, 4])("all ranks get what was sent, %d ranks", async (n) => {
    await localRanks(n, async ({ rank, worldSize }) => {
      const all = Array.from({ length: worldSize }, (_, from) => objectOf(from));
      expect(await dist.allGatherObject(objectOf(rank))).toEqual(all);
      for (let root = 0; root < worldSize; root++) {
        const gathered = await dist.gatherObject(objectOf(rank), { dst: root });
        expect(gathered).toEqual(rank === root ? all : undefined);
        const own = rank === root ? objectOf(root) : undefined;
        const copy = await dist.broadcastObject(own, { src: root });
        expect(copy).toEqual(objectOf(root));
        expect(copy).not.toBe(own as never);
        const parts = rank === root ? all : undefined;
        expect(await dist.scatterObject(parts, { src: root })).toEqual(objectOf(rank));
      }
      if (rank > 0) await dist.sendObject(objectOf(rank), { dst: 0, tag: 3 });
      else {
        const sources = new Set<number>();
        for (let i = 1; i < worldSize; i++) {
          const work = dist.recvObject<ReturnType<typeof objectOf>>({ tag: 3 });
          const object = await work;
          expect(object).toEqual(objectOf(work.sourceRank()));
          sources.add(work.sourceRank());
        }
        expect(sources.size).toBe(worldSize - 1);
      }
    });
  });

  test("several at once keep their order, and collectives that follow wait for them", async () => {
    const { messages, sums } = (await localRanks(
      3,
      async ({ rank, group }) => {
        const first = dist.allGatherObject(rank);
        const tensor = new Float32Array([rank]);
        const sum = dist.allReduce(tensor);
        const second = dist.broadcastObject(`from ${rank}`, { src: 2 });
        const list = new Float32Array([1]);
        const last = dist.coalescing(() => void dist.allReduce(list));
        expect(() => sum.wait()).toThrow("Await the Work");
        // Messages do not wait for collectives; those with one tag keep their order.
        const messages: unknown[] = [];
        if (rank === 0) for (let i = 0; i < 3; i++) void dist.sendObject({ i }, { dst: 1 });
        if (rank === 1) messages.push(...(await Promise.all([0, 1, 2].map(() => dist.recvObject({ src: 0 })))));
        expect(await first).toEqual([0, 1, 2]);
        expect(await second).toBe("from 2");
        await last;
        expect(await sum).toBe(tensor);
        expect(group.state).toBe("OPEN");
        return { messages, sums: [tensor[0], list[0]] };
      },
      { options: { seed: 5 } },
    ).then((results) => results[1])) as { messages: unknown[]; sums: number[] };
    expect(messages).toEqual([{ i: 0 }, { i: 1 }, { i: 2 }]);
    expect(sums).toEqual([3, 3]);
  });

  test("a collective that waits behind an object is unaffected by changes to its arguments", async () => {
    await localRanks(2, async ({ rank, group }) => {
      const object = group.allGatherObject(rank);
      const options = { op: dist.ReduceOp.SUM };
      const [first, second, third] = [Float32Array.of(rank + 1), Float32Array.of(rank + 1), Float32Array.of(rank + 1)];
      const list = [first, second];
      const works = [group.allReduce(list, options), group.broadcast(third, { src: 1 })];
      const refused = group.broadcast(third, { src: 7 });
      expect([refused.isCompleted(), refused.seq]).toEqual([true, -1]);
      expect((await errorOf(refused)).message).toContain("global rank 7 is not in group");
      Object.assign(options, { op: dist.ReduceOp.MAX });
      list.pop();
      await object;
      await Promise.all(works);
      expect([...first, ...second, ...third]).toEqual([3, 3, 2]);
    });
  });

  test("an op called when an object collective ends stays behind those called before", async () => {
    const orders: number[][] = [[], []];
    const noting: Middleware = {
      name: "noting",
      create:
        ({ rank }) =>
        (next) =>
        (calls) => {
          for (const { op, outputs } of calls) if (op === "allReduce") orders[rank]?.push(outputs[0]?.length ?? -1);
          return next(calls);
        },
    };
    await localRanks(
      2,
      async ({ rank, store }) => {
        const container = createContainer();
        container.register(BACKEND_MIDDLEWARE, { useValue: noting });
        await using group = await dist.initProcessGroup({ backend: "fake", container, store, rank, worldSize: 2 });
        const object = group.allGatherObject(rank);
        const before = group.allReduce(new Float32Array(1));
        await Promise.all([object.then(() => group.allReduce(new Float32Array(2))), before]);
      },
      { init: false },
    );
    expect(orders).toEqual([
      [1, 2],
      [1, 2],
    ]);
  });

  test("destroyProcessGroup waits for the last step of ops in flight", async () => {
    const results = await localRanks(
      2,
      async ({ rank, store }) => {
        await dist.initProcessGroup({ backend: "fake", store, rank, worldSize: 2 });
        const gathered = dist.allGatherObject(rank);
        await dist.destroyProcessGroup();
        return gathered.isSuccess() && gathered.result();
      },
      { init: false },
    );
    expect(results).toEqual([
      [0, 1],
      [0, 1],
    ]);
  });

  const refusals: [string, (it: LocalRank) => PromiseLike<unknown>, string, string, string][] = [
    [
      "an object that cannot be encoded",
      ({ rank }) => dist.allGatherObject(rank === 1 ? () => {} : rank),
      "OBJECT_NOT_SENDABLE",
      "OBJECT_REFUSED",
      "allGatherObject: rank 1 cannot encode its object",
    ],
    [
      "an object over the limit",
      () => dist.broadcastObject("x".repeat(100), { src: 1, maxBytes: 50 }),
      "OBJECT_TOO_LARGE",
      "OBJECT_REFUSED",
      "broadcastObject: rank 1 cannot encode its object",
    ],
    [
      "a part that cannot be encoded",
      ({ rank }) => dist.scatterObject(rank === 1 ? [1, new WeakMap()] : undefined, { src: 1 }),
      "OBJECT_NOT_SENDABLE",
      "OBJECT_REFUSED",
      "scatterObject: rank 1 cannot encode its object",
    ],
    [
      "a message that cannot be encoded",
      ({ rank }) => (rank === 1 ? dist.sendObject(Symbol("x"), { dst: 0 }) : dist.recvObject({ src: 1 })),
      "OBJECT_NOT_SENDABLE",
      "OBJECT_REFUSED",
      "recvObject: rank 1 cannot encode its object",
    ],
  ];
  test.each(refusals)("%s fails the call on all ranks, but not the group", async (_, call, own, others, message) => {
    await localRanks(2, async (it) => {
      const work = call(it);
      if (it.rank === 1) {
        // Immediately, and without a number: the object is encoded during the call.
        expect(work).toMatchObject({ seq: -1 });
        expect((work as dist.Work<unknown>).isCompleted()).toBe(true);
      }
      const error = await errorOf(work);
      expect(error.code).toBe(it.rank === 1 ? own : others);
      if (it.rank === 0) expect(error.message).toContain(message);
      expect(await dist.allGatherObject(it.rank)).toEqual([0, 1]);
    });
  });

  test("an object is sent as it was when the op was called", async () => {
    await localRanks(2, async ({ rank, group }) => {
      const list = [{ at: "call" }];
      const object = { rank, list };
      const works = [
        group.allGatherObject(object),
        group.gatherObject(object, { dst: 0 }),
        group.broadcastObject(object, { src: 1 }),
        group.scatterObject(rank === 1 ? [object, object] : undefined, { src: 1 }),
        rank === 0 ? group.sendObject(object, { dst: 1 }) : group.recvObject({ src: 0 }),
      ];
      object.rank = 7;
      list.push({ at: "a later time" });
      const then = (from: number) => ({ rank: from, list: [{ at: "call" }] });
      const [all, gathered, broadcast, part, message] = await Promise.all(works);
      expect(all).toEqual([then(0), then(1)]);
      expect(gathered).toEqual(rank === 0 ? [then(0), then(1)] : undefined);
      expect([broadcast, part]).toEqual([then(1), then(1)]);
      expect(message).toEqual(rank === 0 ? undefined : then(0));
    });
  });

  test("a length that exceeds the bytes costs its receiver nothing", async () => {
    await localRanks(2, async ({ rank }) => {
      if (rank === 1) {
        const bytes = Uint8Array.from(Array.from({ length: 4_000 }, () => [0xdd, 0, 1, 0x86, 0x9f]).flat());
        await dist.send(BigInt64Array.of(BigInt(bytes.length)), { dst: 0, tag: 5 });
        await dist.send(bytes, { dst: 0, tag: 5 });
        return;
      }
      const error = await errorOf(dist.recvObject({ src: 1, tag: 5 }));
      expect(error).toMatchObject({ code: "OBJECT_MALFORMED", details: { op: "recvObject", peers: [1] } });
      expect(error.message).toStartWith(
        "recvObject: what rank 1 sent is not an object of this library (a list announces 99999 values where 19995 bytes are left)",
      );
    });
  });

  test("invalid arguments are refused before anything is sent", async () => {
    await localRanks(2, async ({ rank, group }) => {
      const bad: [PromiseLike<unknown>, string][] = [
        [dist.broadcastObject(1, { src: 7 }), "broadcastObject: global rank 7 is not in group"],
        [dist.gatherObject(1, {} as { dst: number }), "gatherObject: give exactly one of dst"],
        [
          dist.scatterObject([1], { src: rank }),
          "scatterObject: the source must pass one object per rank (2), got 1 objects",
        ],
        [dist.sendObject(1, { dst: rank }), "sendObject: dst is the rank of this process itself"],
        [dist.recvObject({ src: 1 - rank, tag: -1 }), "recvObject: tag"],
        [
          dist.allGatherObject(1, { maxBytes: 0 }),
          "allGatherObject: maxBytes must be a positive integer, got number 0",
        ],
        [dist.allGatherObject(1, { timeout: 0 }), "allGatherObject: "],
      ];
      for (const [work, message] of bad) {
        const error = await errorOf(work);
        expect(error).toBeInstanceOf(dist.InvalidArgumentError);
        expect(error.message).toStartWith(message);
      }
      let inside: PromiseLike<unknown> | undefined;
      const whole = group.coalescing(() => {
        inside = group.allGatherObject(1);
      });
      expect((await errorOf(whole)).message).toContain("cannot be coalesced");
      if (inside !== undefined) await errorOf(inside);
      await dist.barrier();
    });
  });

  test("the time-out of a step is given in whole milliseconds", async () => {
    let message = "";
    await localRanks(2, async ({ rank, group }) => {
      if (rank === 1) await Bun.sleep(60);
      else message = (await errorOf(group.allGatherObject(1, { timeout: 30 }))).message;
    });
    expect(message).toMatch(/timed out after (29|30) ms; rank 1 did not arrive; called at /);
  });

  test("bytes that were not encoded by this package are an error", async () => {
    await localRanks(2, async ({ rank }) => {
      if (rank === 1) {
        await dist.broadcast(new BigInt64Array([4n]), { src: 1 });
        await dist.broadcast(new Uint8Array([0xc1, 0, 0, 0]), { src: 1 });
        return;
      }
      const error = await errorOf(dist.broadcastObject(undefined, { src: 1 }));
      expect(error).toMatchObject({ name: "DistBackendError", code: "OBJECT_MALFORMED" });
      expect(error.message).toContain("what rank 1 sent is not an object of this library");
    });
  });
});
