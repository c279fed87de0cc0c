import "reflect-metadata";
import { describe, expect, test } from "bun:test";
import * as dist from "../index.ts";
import { localRanks } from "../testing/index.ts";

/** The recorded ops of rank 0 after two ranks of fake have run `body`. */
async function recorded(body: (rank: number) => Promise<unknown>): Promise<readonly dist.TraceEntry[]> {
  const container = dist.createContainer();
  await localRanks(2, ({ rank }) => body(rank), { container });
  return container
    .resolve(dist.FLIGHT_RECORDER)
    .entries()
    .filter(({ group }) => group.globalRanks[group.rank] === 0);
}

const one = () => new Float32Array(1);
const brief = (entries: readonly dist.TraceEntry[]) =>
  entries.map(({ op, seq, state, outputs }) => `${op} #${seq} [${outputs.map(({ length }) => length)}] ${state}`);

describe("the flight recorder has one entry per call of the user", () => {
  test("for multi-step ops, and for those that wait for them", async () => {
    const entries = await recorded(async () => {
      const objects = dist.allGatherObject("a");
      const sum = dist.allReduce(one(), { op: dist.ReduceOp.MAX, timeout: 5_000 });
      await dist.allReduce(dist.sparseTensor({ indices: [[0]], values: one(), shape: [3] }));
      await Promise.all([objects, sum]);
    });
    expect(brief(entries)).toEqual([
      "allGatherObject #1 [] completed",
      "allReduce #3 [1] completed",
      "allReduce #4 [] completed",
    ]);
    expect(entries.map(({ opType, timeoutMs }) => [opType, timeoutMs === 5_000])).toEqual([
      [dist.OpType.ALLGATHER, false],
      [dist.OpType.ALLREDUCE, true],
      [dist.OpType.ALLREDUCE_SPARSE, false],
    ]);
  });

  test("for objects, with the ranks and the tag that the user named", async () => {
    const entries = await recorded(async (rank) => {
      const group = (await dist.newGroup([1, 0])) ?? undefined;
      const message = rank === 0 ? dist.sendObject("a", { dst: 1, tag: 5, group }) : dist.recvObject({ tag: 5, group });
      const back = rank === 0 ? dist.recvObject({ tag: 6, group }) : dist.sendObject("b", { dst: 0, tag: 6, group });
      await Promise.all([message, back]);
      await dist.broadcastObject("a", { src: 1, group });
      await dist.gatherObject("a", { dst: 1, group });
      await dist.scatterObject(rank === 1 ? ["a", "b"] : undefined, { src: 1, group });
    });
    const other = entries[0]?.group.globalRanks.indexOf(1);
    expect(entries).toMatchObject([
      { op: "sendObject", isMessage: true, peer: other, tag: 5, root: -1 },
      { op: "recvObject", isMessage: true, peer: other, tag: 6, root: -1 },
      ...["broadcastObject", "gatherObject", "scatterObject"].map((op) => ({
        op,
        isMessage: false,
        root: other,
        peer: -1,
      })),
    ] as never);
  });

  test("for the ops of a batch, and for the whole", async () => {
    const entries = await recorded((rank) =>
      Promise.all([
        dist.coalescing(() => {
          dist.allReduce(one());
          dist.allReduce(new Float32Array(2));
        }),
        ...dist.batchIsendIrecv([
          { op: dist.isend, tensor: one(), peer: 1 - rank, tag: 3 },
          { op: dist.irecv, tensor: one(), peer: 1 - rank, tag: 3 },
        ]),
      ]),
    );
    expect(entries.map(({ op }) => op)).toEqual(["allReduce", "allReduce", "coalescing", "send", "recv", "coalescing"]);
    expect(entries.map(({ state }) => state)).toEqual(Array(6).fill("completed"));
    const [, , , send, recv] = entries;
    expect([send, recv]).toMatchObject([
      { isMessage: true, peer: 1, tag: 3, inputs: [{ dtype: "float32", length: 1 }], outputs: [] },
      { isMessage: true, peer: 1, tag: 3, inputs: [], outputs: [{ dtype: "float32", length: 1 }] },
    ]);
  });

  test("for other groups, with their members, and for several in turn", async () => {
    const entries = await recorded(async () => {
      const pair = await dist.newGroup([0, 1], { description: "a pair" });
      await dist.barrier({ group: pair });
      if (pair !== null) await dist.roundRobinProcessGroups([pair]).broadcast(one(), { src: 1 });
    });
    expect(entries).toMatchObject([
      { op: "barrier", outputs: [], group: { name: "1", description: "a pair", rank: 0, globalRanks: [0, 1] } },
      { op: "broadcast", root: 1, group: { name: "round_robin:1", globalRanks: [0, 1] } },
    ]);
  });

  test("for an object that cannot be sent, as on the other ranks", async () => {
    const container = dist.createContainer();
    await localRanks(2, ({ rank }) => dist.allGatherObject(rank === 0 ? () => {} : 1).catch(() => {}), { container });
    const entries = container.resolve(dist.FLIGHT_RECORDER).entries();
    expect(entries.map(({ op, state, group }) => `${op} ${state} on rank ${group.rank}`).sort()).toEqual([
      "allGatherObject failed on rank 0",
      "allGatherObject failed on rank 1",
    ]);
    expect(entries[0]?.error).toContain("a function is not plain data");
  });

  test("with its error, but not for a call with invalid arguments", async () => {
    const entries = await recorded(async (rank) => {
      await dist.broadcast(one(), { src: 7 }).catch(() => {});
      const group = await dist.newGroup();
      const late = dist.recv(one(), { group, src: 1 - rank, timeout: 20 });
      await late.catch(() => {});
      await dist.barrier({ group }).catch(() => {});
    });
    expect(entries).toMatchObject([
      { op: "recv", state: "failed", timeoutMs: 20, error: expect.stringContaining("20 ms") },
      { op: "barrier", state: "failed", seq: -1, error: expect.stringContaining("has failed") },
    ]);
  });
});
