import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { allWell } from "../fixtures/all-well.ts";
import { describeGloo } from "./fixtures/availability.ts";
import type { Passage } from "./fixtures/barriers.ts";
import { claimedPairs, unclaimedPairs } from "./fixtures/reference.ts";
import type { SweepArgs, SweepResult } from "./fixtures/sweep.ts";

setDefaultTimeout(300_000);

const fixture = (name: string): URL => new URL(`./fixtures/${name}.ts`, import.meta.url);
const full = process.env.C10D_SWEEP === "full";
// Another sample each day; C10D_SEED repeats one.
const seed = Number(process.env.C10D_SEED ?? new Date().toISOString().slice(0, 10).replaceAll("-", ""));
const sweepArgs: SweepArgs = {
  sizes: [0, 1, 7, 1_000],
  largest: 1_000_003,
  sample: full ? Number.POSITIVE_INFINITY : 6,
  seed,
};
// A smoke sweep has one of the larger jobs, and the other one the next day.
const larger = full ? [3, 4] : [3 + (seed % 2)];

describeGloo("gloo sweep", () => {
  if (!full) {
    console.log(
      `sample: gloo, 1, 2 and ${larger} ranks, each size in one mode, ${sweepArgs.sample} cases of each kind with ${sweepArgs.largest} elements, C10D_SEED=${seed}`,
    );
  }

  test.each([1, 2, ...larger])("every dtype, reduce op, root and size with %d ranks", async (worldSize) => {
    const outcomes = await spawnRanks(worldSize, fixture("sweep"), { args: sweepArgs, timeout: "280s" });
    const results = allWell<SweepResult>(outcomes);
    expect(results.flatMap(({ wrong }, rank) => wrong.map((text) => `rank ${rank}: ${text}`))).toEqual([]);
    const [first] = results;
    for (const { hashes } of results) expect(hashes).toEqual(first?.hashes ?? []);
    const small = (full ? 2 : 1) * sweepArgs.sizes.length;
    expect(first?.cases).toBeGreaterThan(small * (claimedPairs.length + 15 * worldSize + 12) + unclaimedPairs.length);
    expect(first?.largestCases).toBe(full ? 2 * (claimedPairs.length + 15 * worldSize + 12) : 3 * sweepArgs.sample);
  });
});

describeGloo("gloo", () => {
  test.each([1, 2, ...larger])(
    "tensors anywhere in memory, nothing outside them changed, %d ranks",
    async (worldSize) => {
      const checked = allWell<number>(await spawnRanks(worldSize, fixture("layouts")));
      expect(checked).toEqual(checked.map(() => 52));
    },
  );

  test.each([2, ...larger])("300 ops in flight keep their order and results, %d ranks", async (worldSize) => {
    expect(allWell<number>(await spawnRanks(worldSize, fixture("ordering")))).toEqual(Array(worldSize).fill(300));
  });

  test.each([2, ...larger])("no rank leaves a barrier before the last has arrived, %d ranks", async (worldSize) => {
    const ranks = allWell<Passage[]>(await spawnRanks(worldSize, fixture("barriers")));
    for (let i = 0; i < 2 * worldSize; i++) {
      const passages = ranks.flatMap((passed) => passed[i] ?? []);
      expect(passages).toHaveLength(worldSize);
      const lastArrived = Math.max(...passages.map(({ came }) => came));
      for (const { left } of passages) expect(left).toBeGreaterThanOrEqual(lastArrived);
    }
  });

  test.each([2, ...larger])("sub-groups, concurrent groups, the end of a group, %d ranks", async (worldSize) => {
    const outcomes = await spawnRanks(worldSize, fixture("sub-groups"));
    const links = allWell<number>(outcomes);
    expect(links).toEqual(links.map((_, rank) => (rank === 0 || rank === worldSize - 1 ? 1 : 2)));
    for (const { rank, stderr } of outcomes) {
      const outsider = rank !== 0 && rank !== worldSize - 1;
      expect(stderr.match(/has no effect: this rank does not belong/g) ?? []).toHaveLength(outsider ? 1 : 0);
    }
  });
});
