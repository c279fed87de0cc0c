import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { describeMpi, launchWith } from "./fixtures/availability.ts";
import type { Ending } from "./fixtures/leaving.ts";
import { implementations } from "./implementation.ts";

setDefaultTimeout(120_000);

const leaving = new URL("./fixtures/leaving.ts", import.meta.url);
const closing = new URL("./fixtures/closing.ts", import.meta.url);
/** The ops' own limit is a minute, and a loaded machine is slow. */
const PROMPT_MS = 30_000;

for (const implementation of implementations) {
  describeMpi("mpi ranks that leave", implementation, () => {
    test.each([
      [2, {}],
      [3, {}],
      [3, { threads: "single" }],
    ] as const)("%d ranks, options %o: the others are notified at once of which rank left", async (n, options) => {
      const outcomes = await spawnRanks(n, leaving, {
        ...launchWith(implementation),
        args: { options },
        timeout: 100_000,
      });
      const last = n - 1;
      for (const { rank, exitCode, error, value, stderr } of outcomes) {
        const { wrong, endings } = (value ?? {}) as { wrong?: string[]; endings?: Ending[] };
        expect({ rank, exitCode, error: error?.stack, wrong, stderr: exitCode === 0 ? "" : stderr }).toEqual({
          rank,
          exitCode: 0,
          error: undefined,
          wrong: [],
          stderr: "",
        });
        const expected = [];
        if (rank !== last) {
          expected.push(
            "a collective that it never called",
            "a collective after one that it called",
            "a recv",
            "a send",
          );
          if (rank === 0) expected.push("a recv from any rank");
          expected.push("a second recv");
        }
        expected.push(rank === 0 ? "time-out" : "the time-out of another rank");
        expect(endings?.map(({ what }) => what).sort()).toEqual(expected.sort());
        for (const { what, error, peers, ms } of endings ?? []) {
          expect(ms).toBeLessThan(PROMPT_MS);
          if (what === "time-out") {
            expect(error).toContain("DistTimeoutError: recv #1");
          } else if (what === "the time-out of another rank") {
            expect(error).toMatch(/rank 0.*timed out after 150 ms/);
          } else if (what === "a recv from any rank") {
            expect(error).toMatch(/DistNetworkError: .*rank \d has closed the group/);
          } else {
            expect(error).toMatch(new RegExp(`DistNetworkError: .*rank ${last} has closed the group`));
            expect(peers).toEqual([last]);
          }
        }
      }
    });

    test("closing groups with ops that MPI cannot cancel does not block for long", async () => {
      const groups = 8;
      const outcomes = await spawnRanks(2, closing, {
        ...launchWith(implementation),
        args: { groups },
        timeout: 60_000,
      });
      const values = outcomes.map(({ exitCode, value }) => ({ exitCode, ...(value as object) }));
      const [first] = values as { exitCode: number; errors: string[]; blockedMs: number }[];
      expect(first?.errors).toEqual(Array.from({ length: groups }, () => "OP_TIMEOUT"));
      expect(first?.blockedMs).toBeLessThan(groups * 900);
      expect(values.map(({ exitCode }) => exitCode)).toEqual([0, 0]);
    });
  });
}
