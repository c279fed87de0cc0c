import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { describeMpi, launchWith } from "./fixtures/availability.ts";
import { BARRIER_MS, type Late } from "./fixtures/late.ts";
import { implementations } from "./implementation.ts";

setDefaultTimeout(60_000);

/** How long a rank waits beyond its limit for the answer of rank 0, and how long reports take on a busy machine. */
const ANSWER_GRACE_MS = 500;
const REPORTED_MS = 4_000;

const file = new URL("./fixtures/late.ts", import.meta.url);

for (const implementation of implementations) {
  describeMpi("mpi, late ranks", implementation, () => {
    test("complete no op that the others have given up, and a monitored barrier names only missing ranks", async () => {
      const outcomes = await spawnRanks(4, file, { ...launchWith(implementation), timeout: 50_000 });
      expect(outcomes.map(({ error }) => error?.stack)).toEqual(outcomes.map(() => undefined));
      const ends = outcomes.map(({ value }) => value as Late);
      for (const { ops } of ends) {
        expect(ops.map((error) => error?.code)).toEqual(ops.map(() => "OP_TIMEOUT"));
        for (const error of ops) expect(error?.details?.peers).toEqual([1]);
      }
      // Rank 3 started before rank 0 and leaves it to rank 0 to name the missing ranks.
      const [first, , , last] = ends.map(({ barrier }) => barrier?.error);
      for (const error of [first, last]) {
        expect(error).toMatchObject({ code: "OP_TIMEOUT", details: { peers: [1, 2] } });
      }
      expect(first?.message).toContain(`Ranks 1, 2 failed to pass monitoredBarrier in ${BARRIER_MS} ms`);
      for (const rank of [1, 2, 3]) {
        const { error, ms = 0 } = ends[rank]?.unanswered ?? {};
        expect(error).toMatchObject({ code: "OP_TIMEOUT", details: { peers: [0] } });
        expect(ms).toBeGreaterThan(BARRIER_MS);
        expect(ms).toBeLessThan(BARRIER_MS + ANSWER_GRACE_MS + REPORTED_MS);
      }
    });
  });
}
