import { describe, expect, test } from "bun:test";
import fake from "../../backends/fake/plugin.ts";
import * as dist from "../../index.ts";
import { localRanks } from "../../testing/index.ts";

/** The fake backend with these ops only. */
function having(...names: readonly (keyof dist.Capabilities["ops"])[]): dist.BackendPlugin {
  const ops = Object.fromEntries(names.map((name) => [name, fake.capabilities.ops[name]]));
  return { ...fake, capabilities: { ...fake.capabilities, ops } };
}

const lists = having("allReduce", "allGather", "reduceScatter", "allToAll", "gather", "broadcast", "scatter");

describe("an op that a backend lacks is composed of those that it has", () => {
  test.each([2, 3])("one tensor of all parts as a list with one per rank, %d ranks", async (n) => {
    const sum = (of: (rank: number) => number) =>
      Array.from({ length: n }, (_, rank) => of(rank)).reduce((a, b) => a + b);
    const body = async ({ rank }: { readonly rank: number }) => {
      const gathered = new Float32Array(2 * n);
      expect(await dist.allGatherIntoTensor(gathered, Float32Array.of(rank, 10 * rank))).toBe(gathered);
      expect([...gathered]).toEqual(Array.from({ length: n }, (_, r) => [r, 10 * r]).flat());

      const part = new Float16Array(1);
      await dist.reduceScatterTensor(
        part,
        Float16Array.from({ length: n }, (_, r) => r + rank),
      );
      expect([...part]).toEqual([sum((r) => rank + r)]);

      const whole = dist.tensor(Array<number>(2 * n).fill(0), { dtype: "complex64", shape: [n] });
      await dist.allGatherIntoTensor(whole, dist.tensor([rank, -rank], { dtype: "complex64" }));
      expect(Array.from(whole.data as Float32Array)).toEqual(Array.from({ length: n }, (_, r) => [r, -r]).flat());

      const received = new Int16Array(n);
      await dist.allToAllSingle(
        received,
        Int16Array.from({ length: n }, (_, r) => 10 * rank + r),
      );
      expect([...received]).toEqual(Array.from({ length: n }, (_, r) => 10 * r + rank));

      // Rank r sends r + 1 elements to each rank.
      const outputSplits = Array.from({ length: n }, (_, r) => r + 1);
      const uneven = new Float64Array(sum((r) => r + 1));
      const inputSplits = Array<number>(n).fill(rank + 1);
      await dist.allToAllSingle(uneven, new Float64Array(n * (rank + 1)).fill(rank), { inputSplits, outputSplits });
      expect([...uneven]).toEqual(outputSplits.flatMap((length, r) => Array<number>(length).fill(r)));

      const pairs = [new Uint8Array(n), new Uint8Array(2 * n)];
      await dist.allGatherIntoTensor(pairs, [Uint8Array.of(rank), Uint8Array.of(rank, rank)]);
      expect([...(pairs[1] ?? [])]).toEqual(Array.from({ length: n }, (_, r) => [r, r]).flat());
    };
    await localRanks(n, body, { backend: lists });
  });

  test("objects, too", async () => {
    const all = await localRanks(3, async ({ rank }) => dist.allGatherObject({ rank }), { backend: lists });
    expect(all).toEqual(Array(3).fill([{ rank: 0 }, { rank: 1 }, { rank: 2 }]));
  });

  test("a monitored barrier as messages", async () => {
    const messages = having("send", "recv", "allReduce");
    const order: string[] = [];
    await localRanks(
      3,
      async ({ rank }) => {
        if (rank === 2) await Bun.sleep(50);
        order.push(`${rank} comes`);
        await dist.monitoredBarrier({ timeout: 5_000 });
        order.push(`${rank} leaves`);
      },
      { backend: messages },
    );
    expect(order.map((each) => each.slice(2))).toEqual(["comes", "comes", "comes", "leaves", "leaves", "leaves"]);
    expect(await localRanks(1, () => dist.monitoredBarrier(), { backend: messages })).toEqual([undefined]);
    const missed = async (waitAllRanks: boolean) => {
      const over = Promise.withResolvers<void>();
      const [error] = await localRanks(
        3,
        async ({ rank }) => {
          if (rank > 0) return over.promise;
          const reason = await dist.monitoredBarrier({ timeout: 40, waitAllRanks }).catch((reason: unknown) => reason);
          over.resolve();
          return reason;
        },
        { backend: messages },
      );
      return error as dist.DistError;
    };
    const all = await missed(true);
    expect(all.message).toStartWith(
      'monitoredBarrier #1 on group "0" (fake, rank 0 of 3): timed out after 40 ms: ranks 1, 2 have not reached it; called at ',
    );
    expect(all).toMatchObject({
      code: "OP_TIMEOUT",
      details: { op: "monitoredBarrier", seq: 1, peers: [1, 2], timeoutMs: 40 },
    });
    const first = await missed(false);
    expect(first.message).toContain("timed out after 40 ms: rank 1 has not reached it; called at ");
    // The records show the other one.
    expect(first.details.peers).toEqual([1, 2]);
    const over = Promise.withResolvers<void>();
    const [, other] = await localRanks(
      2,
      async ({ rank, group }) => {
        await group.allReduce(new Float32Array(1));
        if (rank === 0) return over.promise;
        const reason = await dist.monitoredBarrier({ timeout: 40 }).catch((reason: unknown) => reason);
        over.resolve();
        return reason;
      },
      { backend: messages },
    );
    expect((other as dist.DistError).message).toStartWith(
      'monitoredBarrier #1 on group "0" (fake, rank 1 of 2): timed out after 1040 ms; rank 0 did not arrive; called at ',
    );
    expect((other as dist.DistError).details).toMatchObject({ op: "monitoredBarrier", seq: 1, rank: 1 });
  });

  test("an op that cannot be composed is refused by its own name", async () => {
    await localRanks(
      2,
      async ({ rank }) => {
        const [whole, part] = [new Float32Array(2), new Float32Array(1)];
        expect(dist.allGatherIntoTensor(whole, part).exception()?.message).toBe(
          'backend "fake" does not implement allGatherIntoTensor',
        );
        expect(dist.gatherSingle(rank === 0 ? whole : undefined, part, { dst: 0 }).exception()?.message).toContain(
          "does not implement gatherSingle",
        );
        expect(dist.allGatherObject(1).exception()?.message).toContain("does not implement allGatherIntoTensor");
        await dist.barrier();
      },
      { backend: having("allReduce", "barrier") },
    );
  });
});

describe("gatherSingle", () => {
  test.each(["its own op", "gather"])("by %s", async (way) => {
    const backend = way === "gather" ? having("gather") : having("gatherSingle");
    await localRanks(
      3,
      async ({ rank }) => {
        const output = rank === 1 ? new Int32Array(6) : undefined;
        const result = await dist.gatherSingle(output, Int32Array.of(rank, -rank), { dst: 1 });
        expect(result).toBe(output);
        if (output !== undefined) expect([...output]).toEqual([0, 0, 1, -1, 2, -2]);
      },
      { backend },
    );
  });

  test("the destination alone passes the output, of the right length and in separate memory", async () => {
    await localRanks(2, async ({ rank }) => {
      const message = (output: Float32Array | undefined, input: Float32Array) =>
        dist.gatherSingle(output, input, { dst: 0 }).exception()?.message;
      const input = new Float32Array(1);
      if (rank === 0) {
        expect(message(undefined, input)).toBe("gatherSingle: output must be given on the destination rank");
        expect(message(new Float32Array(3), input)).toContain("output must have 2 (world size) times");
        const whole = new Float32Array(2);
        expect(message(whole, whole.subarray(1))).toContain("output and input overlap by 4 bytes");
        // The destination's own part may already be in place.
        whole[0] = 5;
        await dist.gatherSingle(whole, whole.subarray(0, 1), { dst: 0 });
        expect([...whole]).toEqual([5, 7]);
      } else {
        for (let i = 0; i < 3; i++) {
          expect(message(new Float32Array(2), input)).toBe(
            "gatherSingle: output must only be given on the destination rank",
          );
        }
        await dist.gatherSingle(undefined, Float32Array.of(7), { dst: 0 });
      }
    });
  });
});
