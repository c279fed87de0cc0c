import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { localRanks, type SpawnOptions, spawnRanks } from "bun-c10d/testing";
import { describeGloo } from "../../src/backends/gloo/fixtures/availability.ts";
import { describeMpi, launchWith } from "../../src/backends/mpi/fixtures/availability.ts";
import { implementations } from "../../src/backends/mpi/implementation.ts";
import { describeUcc, spawn } from "../../src/backends/ucc/fixtures/availability.ts";
import * as dist from "../../src/index.ts";
import { reportError } from "../../src/testing/rank-protocol.ts";
import type { OtherMembers, OtherMembersArgs } from "./fixtures/other-members-rank.ts";

setDefaultTimeout(90_000);

/** Long before the time-out of the group, and long after the look that finds the difference on a loaded machine. */
const NOTICED_MS = 20_000;

const all = [0, 1, 2];
/** Lists of three ranks, none for one that is no member in its own view, and what all say. */
const cases: [string, number[][], RegExp][] = [
  // Which of the others is named depends on who comes first.
  [
    "rank 1 leaves one out",
    [all, [0, 1], all],
    /rank 0 makes it of 0, 1, 2, rank 1 makes it of 0, 1\. |rank 1 makes it of 0, 1, rank 2 /,
  ],
  ["rank 2 takes one more", [[0, 2], [], all], /rank 0 makes it of 0, 2, rank 2 makes it of 0, 1, 2\. /],
  ["two pairs", [[0, 1], [1, 2], []], /rank 0 makes it of 0, 1, rank 1 makes it of 1, 2\. /],
];

/** What a rank calls that is no member. */
const without = (rank: number): number[] => all.filter((other) => other !== rank);

function testLists(backend: string, options: SpawnOptions): void {
  test.each(cases)("%s", async (_, lists, message) => {
    const given = lists.map((list, rank) => (list.length > 0 ? list : without(rank)));
    const args: OtherMembersArgs = { backend, lists: given };
    const url = new URL("./fixtures/other-members-rank.ts", import.meta.url);
    const outcomes = await spawnRanks(3, url, { ...options, args, timeout: "80s" });
    const words = new Set<string>();
    for (const { rank, value, error, hung } of outcomes) {
      expect([error, hung]).toEqual([undefined, false]);
      const { error: failure, tookMs, sum } = value as OtherMembers;
      expect(sum).toBe(6);
      if (lists[rank]?.length === 0) {
        expect(failure).toBeUndefined();
        continue;
      }
      expect(failure).toMatchObject({ name: "DistBackendError", code: "DESYNC", details: { group: "1", rank } });
      expect(failure?.details?.peers).toBeUndefined();
      words.add(failure?.message ?? "");
      expect(tookMs).toBeLessThan(NOTICED_MS);
    }
    expect(words.size).toBe(1);
    expect([...words][0]).toMatch(message);
  });
}

describe("ranks that make a group of different ranks", () => {
  describeGloo("by gloo", () => testLists("gloo", {}));
  describeUcc("by ucc", () => testLists("ucc", spawn));
  for (const implementation of implementations) {
    describeMpi("by mpi", implementation, () => testLists("mpi", launchWith(implementation)));
  }

  test.each(cases)("by fake, %s", async (_, lists) => {
    await localRanks(3, async ({ rank, group }) => {
      const own = lists[rank] ?? [];
      const error = await dist.newGroup(own.length > 0 ? own : without(rank)).then(() => undefined, reportError);
      expect(error?.code).toBe(own.length > 0 ? "DESYNC" : undefined);
      await group.barrier();
      const values = Float32Array.of(rank + 1);
      await (await dist.newGroup())?.allReduce(values);
      expect(values[0]).toBe(6);
    });
  });
});
