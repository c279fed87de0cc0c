import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { describeMpi, launchWith } from "./fixtures/availability.ts";
import { implementations } from "./implementation.ts";

setDefaultTimeout(120_000);

const body = new URL("./fixtures/large-all-reduce.ts", import.meta.url);

for (const implementation of implementations) {
  describeMpi("mpi all-reduces of large tensors", implementation, () => {
    const cases = [
      [2, {}],
      [3, {}],
      [4, {}],
      [3, { threads: "single" }],
      [2, { mixed: true }],
    ] as const;
    test.each(cases)("%d ranks, options %o", async (n, options) => {
      const outcomes = await spawnRanks(n, body, { ...launchWith(implementation), args: { options }, timeout: 90_000 });
      const ends = outcomes.map(({ exitCode, error, value }) => ({ exitCode, error: error?.stack, value }));
      expect(ends).toEqual(Array.from({ length: n }, () => ({ exitCode: 0, error: undefined, value: [] })));
    });
  });
}
