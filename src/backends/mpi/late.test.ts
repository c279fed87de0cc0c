import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { describeMpi, launchWith } from "./fixtures/availability.ts";
import type { Late } from "./fixtures/late.ts";
import { implementations } from "./implementation.ts";

setDefaultTimeout(60_000);

const file = new URL("./fixtures/late.ts", import.meta.url);

for (const implementation of implementations) {
  describeMpi("mpi ranks that come late", implementation, () => {
    test("complete no op that the others have given up, and a monitored barrier names only who has not come", async () => {
      const outcomes = await spawnRanks(4, file, { ...launchWith(implementation), timeout: 50_000 });
      expect(outcomes.map(({ error }) => error?.stack)).toEqual(outcomes.map(() => undefined));
      const ends = outcomes.map(({ value }) => value as Late);
      for (const { ops } of ends) {
        expect(ops.map((error) => error?.code)).toEqual(ops.map(() => "OP_TIMEOUT"));
        for (const error of ops) expect(error?.details?.peers).toEqual([1]);
      }
      const barrier = ends[0]?.barrier;
      expect(barrier).toMatchObject({ code: "OP_TIMEOUT" });
      expect(barrier?.message).toContain("Ranks 1, 2 failed to pass monitoredBarrier");
    });
  });
}
