import { expect, setDefaultTimeout, test } from "bun:test";
import { smokeSample } from "../../testing/backend-suite/smoke-sample.ts";
import { spawnRanks, testBackend } from "../../testing/index.ts";
import { describeMpi, launchWith } from "./fixtures/availability.ts";
import { implementations } from "./implementation.ts";
import plugin from "./plugin.ts";

setDefaultTimeout(60_000);

const ownOps = new URL("./fixtures/own-ops.ts", import.meta.url);

/** In a smoke run the suite on one thread is for one of the MPIs, for the other one the next day. */
const suites = smokeSample("mpi with one thread", [...implementations], 1);

for (const [turn, implementation] of implementations.entries()) {
  describeMpi("mpi ops", implementation, () => {
    const cases = [
      [2, {}],
      [3, {}],
      [3, { maxCount: 5 }],
      [3, { threads: "single" }],
    ] as const;
    test.each(smokeSample(`ops of ${implementation}`, cases, 2, turn))(
      "%d ranks, options %o: in place, in pieces, concurrently",
      async (n, options) => {
        const outcomes = await spawnRanks(n, ownOps, { ...launchWith(implementation), args: { options } });
        const ends = outcomes.map(({ exitCode, error, value, stderr }) => ({
          exitCode,
          error: error?.stack,
          value,
          stderr: exitCode === 0 ? "" : stderr,
        }));
        expect(ends).toEqual(
          Array.from({ length: n }, () => ({ exitCode: 0, error: undefined, value: [], stderr: "" })),
        );
      },
    );
  });

  if (!suites.includes(implementation)) continue;
  describeMpi("mpi with one thread", implementation, () => {
    testBackend(plugin, { worldSizes: [2], spawn: launchWith(implementation), options: { threads: "single" } });
  });
}
