import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "bun-c10d/testing";
import { buildIfStale } from "./build-if-stale.ts";
import { type Difference, differences, type Verdict } from "./desync-ranks.ts";

setDefaultTimeout(60_000);
await buildIfStale("shm.so", "build.ts");
await buildIfStale("engine/shm.so", "engine/build.ts");

/** What the third rank calls and the others do not. */
const odd: Readonly<Record<Difference, string>> = {
  op: "rank 2 called broadcast(float32[4], root 0)",
  dtype: "rank 2 called allReduce(int32[4], SUM)",
  "reduce op": "rank 2 called allReduce(float32[4], MAX)",
  root: "rank 2 called broadcast(float32[4], root 1)",
  size: "rank 2 called allReduce(float32[100000], SUM)",
  turn: "rank 2 called allReduce(float32[4], SUM) as collective #2",
};

test.each(["shm", "shm-engine"])("%s: ranks that call different things fail, and say what", async (backend) => {
  const file = new URL("./desync-ranks.ts", import.meta.url);
  const outcomes = await spawnRanks(3, file, { args: { backend }, timeout: "50s" });
  for (const { value, error } of outcomes) {
    expect(error).toBeUndefined();
    const verdicts = value as Record<Difference, Verdict>;
    expect(Object.keys(verdicts)).toEqual(Object.keys(differences));
    for (const [difference, { code, message }] of Object.entries(verdicts)) {
      expect({ difference, code }).toEqual({ difference, code: "DESYNC" });
      expect(message).toMatch(/rank [01] called .* as collective #1, rank 2 called /);
      expect(message).toContain(odd[difference as Difference]);
    }
  }
});
