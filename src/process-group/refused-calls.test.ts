import { describe, expect, test } from "bun:test";
import * as dist from "../index.ts";
import { type LocalRank, localRanks } from "../testing/index.ts";

const floats = () => new Float32Array([1, 2]);
const refused = (group: dist.ProcessGroup) => group.allReduce(floats(), { timeout: 0 });

async function codeOf(work: PromiseLike<unknown>): Promise<unknown> {
  return await work.then(
    () => "none",
    (error: dist.DistError) => error.code,
  );
}

/** Runs a body on three ranks; then all of them compute the sum, or all of them get this code. */
async function afterwards(body: (it: LocalRank) => unknown, code = "none"): Promise<void> {
  const ends = await localRanks(3, async (it) => {
    await body(it);
    return await codeOf(it.group.allReduce(floats(), { timeout: 5_000 }));
  });
  expect(ends).toEqual([code, code, code]);
}

describe("a collective that is refused", () => {
  test("keeps the ranks in step if all refused it", async () => {
    await afterwards(async ({ group, rank }) => {
      expect(await codeOf(refused(group))).toBe("INVALID_ARGUMENT");
      // For different reasons.
      const root = rank === 0 ? { src: 7 } : { src: 0, timeout: 0 };
      expect(await codeOf(group.broadcast(floats(), root))).toBe("INVALID_ARGUMENT");
    });
  });

  test.each([0, 1, 2])("is detected at the next one, if only rank %d refused it", async (odd) => {
    await afterwards(async ({ group, rank }) => {
      if (rank === odd) await codeOf(refused(group));
    }, "DESYNC");
  });

  test("counts at its place in the order, among ops that take several steps", async () => {
    await afterwards(async ({ group, rank }) => {
      const early = group.allGatherObject({ rank, text: "x".repeat(1000 * rank) });
      // Whichever steps of the object op are done by then.
      if (rank > 0) await Bun.sleep(rank);
      if (rank === 2) await early;
      const work = refused(group);
      const later = group.allGatherObject(rank);
      expect(await codeOf(work)).toBe("INVALID_ARGUMENT");
      expect(await early).toHaveLength(3);
      expect(await later).toEqual([0, 1, 2]);
    });
  });

  test("counts once for a batch, however many of its ops are refused; a batch of messages only does not", async () => {
    await afterwards(async ({ group, rank }) => {
      const whole = group.coalescing(() => {
        for (let i = 0; i <= rank; i++) refused(group).catch(() => {});
        group.allReduce(floats()).catch(() => {});
      });
      expect(await codeOf(whole)).toBe("INVALID_ARGUMENT");
    });
    await afterwards(async ({ group, rank }) => {
      if (rank !== 1) return;
      const whole = group.coalescing(() => {
        group.send(floats(), { dst: 0 }).catch(() => {});
        group.send(floats(), { dst: 1 }).catch(() => {});
      });
      expect(await codeOf(whole)).toBe("INVALID_ARGUMENT");
      expect(await codeOf(group.send(floats(), { dst: 9 }))).toBe("INVALID_ARGUMENT");
    });
  });

  test.each([
    ["by all", [0, 1, 2], "none"],
    ["by one", [1], "DESYNC"],
  ] as const)("takes a turn of groups that are used in rotation, %s", async (_, who, code) => {
    const ends = await localRanks(3, async ({ rank }) => {
      const groups = [await dist.newGroup(), await dist.newGroup()].filter((group) => group !== null);
      const rotation = await dist.roundRobinProcessGroups(groups);
      if ((who as readonly number[]).includes(rank)) await codeOf(refused(rotation));
      const works = [1, 2].map(() => rotation.allReduce(floats(), { timeout: 5_000 }));
      const codes = await Promise.all(works.map(codeOf));
      for (const group of groups) group.abort();
      return codes.find((each) => each !== "none") ?? "none";
    });
    expect(ends).toEqual([code, code, code]);
  });
});
