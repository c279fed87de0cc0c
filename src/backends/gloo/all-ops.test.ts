import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { allWell } from "../fixtures/all-well.ts";
import { describeGloo } from "./fixtures/availability.ts";
import { MOST_OF_FEW, type OpSweepArgs, type OpSweepResult } from "./fixtures/op-sweep.ts";
import { claimedPairs, unclaimedPairs } from "./fixtures/reference.ts";

setDefaultTimeout(300_000);

const fixture = (name: string): URL => new URL(`./fixtures/${name}.ts`, import.meta.url);
const full = process.env.C10D_SWEEP === "full";
// Another sample each day; C10D_SEED repeats one.
const seed = Number(process.env.C10D_SEED ?? new Date().toISOString().slice(0, 10).replaceAll("-", ""));
const sweepArgs: OpSweepArgs = { sizes: [0, 1, 7, 1_000], largest: 1_000_003, sample: full ? 15 : 1, seed, full };
const dtypeCount = 15;
// A smoke sweep has one of the larger jobs, and the other one the next day.
const worldSizes = full ? [1, 2, 3, 4] : [1, 2, 3 + (seed % 2)];

describeGloo("gloo sweep of all ops", () => {
  if (!full)
    console.log(
      `sample: gloo, ${worldSizes.join(", ")} ranks, sizes and modes in turn, ${sweepArgs.sample} cases of each op with ${sweepArgs.largest}, C10D_SEED=${seed}`,
    );

  test.each(worldSizes)("every dtype, reduce op, root and size with %d ranks", async (worldSize) => {
    const outcomes = await spawnRanks(worldSize, fixture("op-sweep"), { args: sweepArgs, timeout: "280s" });
    const results = allWell<OpSweepResult>(outcomes);
    expect(results.flatMap(({ wrong }, rank) => wrong.map((text) => `rank ${rank}: ${text}`))).toEqual([]);
    const times = (cases: number) => {
      const runs = full ? 4 : cases <= MOST_OF_FEW ? 1 : 0.5;
      return cases * sweepArgs.sizes.length * runs + sweepArgs.sample;
    };
    const pairs = times(claimedPairs.length);
    const dtypes = times(dtypeCount);
    for (const { cases } of results) {
      expect(cases).toEqual({
        reduce: times(claimedPairs.length * worldSize),
        allGather: dtypes,
        allGatherIntoTensor: dtypes,
        gather: times(dtypeCount * worldSize),
        scatter: times(dtypeCount * worldSize),
        reduceScatter: pairs,
        reduceScatterTensor: pairs,
        allToAll: dtypes,
        allToAllSingle: dtypes,
        ...(worldSize > 1 && { "send and recv": dtypes }),
        refused: 3 * unclaimedPairs.length,
      });
    }
  });
});
