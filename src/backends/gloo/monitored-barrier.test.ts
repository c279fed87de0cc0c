import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { allWell } from "../fixtures/all-well.ts";
import { describeGloo } from "./fixtures/availability.ts";
import type { MissingArgs, MissingResult } from "./fixtures/missing-ranks.ts";

setDefaultTimeout(60_000);

const rounds: readonly MissingArgs[] = [
  { late: [2], waitAllRanks: false, mode: "wait" },
  { late: [1, 3], waitAllRanks: false, mode: "await" },
  { late: [1, 3], waitAllRanks: true, mode: "wait" },
  { late: [1, 3], waitAllRanks: true, mode: "await" },
];

describeGloo("gloo, monitored barrier", () => {
  test("names the rank that is late, or all of them", async () => {
    const file = new URL("./fixtures/missing-ranks.ts", import.meta.url);
    const results = allWell<MissingResult[]>(await spawnRanks(4, file, { args: rounds, timeout: "50s" }));
    for (const [i, { late, waitAllRanks, mode }] of rounds.entries()) {
      const named = waitAllRanks ? late : late.slice(0, 1);
      const missing = `${named.length > 1 ? "Ranks" : "Rank"} ${named.join(", ")} failed to pass monitoredBarrier in 400 ms`;
      for (const [rank, { [i]: result }] of results.entries()) {
        const { error, ms } = result ?? {};
        // Of the others, those that block cannot ask, and only see that a rank is lost.
        if (rank === 0 || mode === "await") {
          expect(error).toMatchObject({ name: "DistTimeoutError", code: "OP_TIMEOUT" });
          expect(error?.message).toContain(missing);
          // Only the records name the others, which may have arrived when a late rank reads them.
          const peers = error?.details?.peers;
          const some = late.includes(rank) && peers?.length === named.length;
          expect(peers).toEqual(some ? named : [...late]);
        } else {
          expect(error).toMatchObject({ name: "DistNetworkError", code: "PEER_LOST" });
          // A rank that is late itself sees that the others have gone.
          if (late.includes(rank)) expect(error?.details?.peers).toHaveLength(1);
          else expect(error?.details?.peers).toEqual([...late]);
        }
        expect(error?.details).toMatchObject({ op: "monitoredBarrier", seq: 2, rank });
        expect(error?.message).toStartWith(
          `monitoredBarrier #2 on group "${error?.details?.group}" (gloo, rank ${rank} of 4): `,
        );
        expect(ms).toBeLessThan(6_000);
        if (rank === 0) expect(ms).toBeGreaterThanOrEqual(390);
      }
    }
  });
});
