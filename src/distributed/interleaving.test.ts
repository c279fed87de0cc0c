import { expect, setDefaultTimeout, test } from "bun:test";
import { allWell } from "../backends/fixtures/all-well.ts";
import { describeGloo } from "../backends/gloo/fixtures/availability.ts";
import { spawnRanks, workerRanks } from "../testing/index.ts";
import type { InterleavingArgs } from "./fixtures/interleaving.ts";

setDefaultTimeout(120_000);

const full = process.env.C10D_SWEEP === "full";
const body = new URL("./fixtures/interleaving.ts", import.meta.url);
const seed = Number(process.env.C10D_SEED ?? new Date().toISOString().slice(0, 10).replaceAll("-", ""));
const argsOf = (backend: string): InterleavingArgs => ({ backend, programs: full ? 400 : 40, seed });

interface Result {
  readonly wrong: readonly string[];
  readonly ops: number;
}

function allRight(results: readonly Result[]): void {
  expect(results.flatMap(({ wrong }) => wrong)).toEqual([]);
  for (const { ops } of results) expect(ops).toBeGreaterThan(100);
}

test.each([2, 3])("fake, %d ranks in Workers: random ops, waited for and awaited in any order", async (worldSize) => {
  console.log(`sample: interleaved ops, C10D_SEED=${seed}`);
  const outcomes = await workerRanks(worldSize, body, { args: argsOf("fake"), timeout: "100s" });
  for (const { error } of outcomes) if (error !== undefined) throw error;
  allRight(outcomes.map(({ value }) => value as Result));
});

describeGloo("gloo", () => {
  test.each([1, 2, 3])("%d ranks: random ops, waited for and awaited in any order", async (worldSize) => {
    allRight(allWell(await spawnRanks(worldSize, body, { args: argsOf("gloo"), timeout: "100s" })));
  });
});
