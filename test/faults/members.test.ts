import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { localRanks, type SpawnOptions, spawnRanks } from "bun-c10d/testing";
import { describeGloo } from "../../src/backends/gloo/fixtures/availability.ts";
import { describeMpi, launchWith } from "../../src/backends/mpi/fixtures/availability.ts";
import { implementations } from "../../src/backends/mpi/implementation.ts";
import { describeUcc, spawn } from "../../src/backends/ucc/fixtures/availability.ts";
import { makeOtherMembers, type OtherMembers, type OtherMembersArgs } from "./fixtures/other-members-rank.ts";

setDefaultTimeout(90_000);

/** Far below the time-out of the group, but long enough to find the difference on a loaded machine. */
const NOTICED_MS = 20_000;

const all = [[0, 1, 2]];

/**
 * The members of the group according to each of three ranks, and the error, which names two of them, depending on which
 * arrive first. No list consists of ranks that agree on it: these might have their group before another disagrees.
 */
interface Case {
  readonly lists: readonly (readonly (readonly number[])[])[];
  readonly says: RegExp;
}

const cases: Readonly<Record<string, Case>> = {
  "one leaves another one out": {
    lists: [all, [[0, 1]], all],
    says: /"1": (rank 0 makes it of 0, 1, 2, rank 1 makes it of 0, 1|rank 1 makes it of 0, 1, rank 2 makes it of 0, 1, 2)\. /,
  },
  "one leaves itself out": {
    lists: [all, [[0, 2]], all],
    says: /"1": (rank 0 makes it of 0, 1, 2, rank 1 makes it of 0, 2|rank 1 makes it of 0, 2, rank 2 makes it of 0, 1, 2)\. /,
  },
  "three pairs": {
    lists: [[[0, 1]], [[1, 2]], [[0, 2]]],
    says: /"1": rank [01] makes it of [01], [12], rank [12] makes it of [01], 2\. /,
  },
  "a group is split into other parts": {
    lists: [
      [[0, 1], [2]],
      [[0], [1, 2]],
      [[0, 2], [1]],
    ],
    says: /"0:split:1": rank [01] splits it into 0(, 1 \| 2| \| 1, 2), rank [12] splits it into 0(, 2 \| 1| \| 1, 2)\. /,
  },
};

/** Whether a rank meets others by its list, and so cannot have created its group. */
const meetsOthers = (lists: readonly (readonly number[])[] | undefined, rank: number): boolean =>
  lists?.some((ranks) => ranks.includes(rank) && ranks.length > 1) ?? false;

function requireDesync(outcomes: readonly OtherMembers[], { lists, says }: Case): void {
  const words = new Set<string>();
  for (const [rank, { error, tookMs, sum }] of outcomes.entries()) {
    expect(sum).toBe(6);
    expect(tookMs).toBeLessThan(NOTICED_MS);
    // One that is not a member, or alone, need not learn of it.
    if (error === undefined) {
      expect(meetsOthers(lists[rank], rank)).toBe(false);
      continue;
    }
    expect(error).toMatchObject({ name: "DistBackendError", code: "DESYNC", details: { rank, peers: [] } });
    words.add(error.message);
  }
  expect(words.size).toBe(1);
  expect([...words][0]).toMatch(says);
}

function testCases(backend: string, options: SpawnOptions): void {
  test.each(Object.entries(cases))("%s", async (_, each) => {
    const args: OtherMembersArgs = { backend, lists: each.lists };
    const url = new URL("./fixtures/other-members-rank.ts", import.meta.url);
    const outcomes = await spawnRanks(3, url, { ...options, args, timeout: "80s" });
    expect(outcomes.map(({ error, hung }) => [error, hung])).toEqual(outcomes.map(() => [undefined, false]));
    requireDesync(
      outcomes.map(({ value }) => value as OtherMembers),
      each,
    );
  });
}

describe("ranks that create a group with different members", () => {
  describeGloo("by gloo", () => testCases("gloo", {}));
  describeUcc("by ucc", () => testCases("ucc", spawn));
  for (const implementation of implementations) {
    describeMpi("by mpi", implementation, () => testCases("mpi", launchWith(implementation)));
  }

  test.each(Object.entries(cases))("by fake, %s", async (_, each) => {
    const outcomes = await localRanks(3, ({ rank }) => makeOtherMembers(each.lists[rank] ?? [], rank));
    requireDesync(outcomes, each);
  });
});
