import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks, testBackend } from "../../testing/index.ts";
import { describeMpi, launchWith } from "./fixtures/availability.ts";
import { implementations } from "./implementation.ts";
import plugin from "./plugin.ts";

setDefaultTimeout(60_000);

const ownOps = new URL("./fixtures/own-ops.ts", import.meta.url);

for (const implementation of implementations) {
  describeMpi("mpi ops", implementation, () => {
    const cases = [
      [2, {}],
      [3, {}],
      [3, { maxCount: 5 }],
      [3, { threads: "single" }],
    ] as const;
    test.each(cases)("%d ranks, options %o: in place, in pieces, concurrently", async (n, options) => {
      const outcomes = await spawnRanks(n, ownOps, { ...launchWith(implementation), args: { options } });
      const ends = outcomes.map(({ exitCode, error, value, stderr }) => ({
        exitCode,
        error: error?.stack,
        value,
        stderr: exitCode === 0 ? "" : stderr,
      }));
      expect(ends).toEqual(Array.from({ length: n }, () => ({ exitCode: 0, error: undefined, value: [], stderr: "" })));
    });
  });

  describeMpi("mpi with one thread", implementation, () => {
    testBackend(plugin, { worldSizes: [2], spawn: launchWith(implementation), options: { threads: "single" } });
  });
}
