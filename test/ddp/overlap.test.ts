import { expect, setDefaultTimeout, test } from "bun:test";
import { type RankOutcome, spawnRanks } from "bun-c10d/testing";
import { describeGloo } from "../../src/backends/gloo/fixtures/availability.ts";
import { describeMpi, launchWith } from "../../src/backends/mpi/fixtures/availability.ts";
import { describeUcc, spawn as withUcc } from "../../src/backends/ucc/fixtures/availability.ts";
import type { Overlap } from "./fixtures/overlap.ts";
import type { Way } from "./fixtures/yielding-pass.ts";

setDefaultTimeout(60_000);

const file = new URL("./fixtures/overlap.ts", import.meta.url);

function expectOverlap(outcomes: readonly RankOutcome[]): void {
  expect(outcomes.map(({ error }) => error)).toEqual([undefined, undefined]);
  for (const { value } of outcomes) {
    const seen = value as readonly Overlap[];
    expect(seen).toHaveLength(3);
    for (const { wasExchanged, hidden, waited, average } of seen) {
      expect({ wasExchanged, average }).toEqual({ wasExchanged: true, average: 0.5 });
      expect(hidden).toBeGreaterThan(0);
      expect(waited).toBeGreaterThan(0);
    }
  }
}

// Buckets are exchanged while a backward pass computes, even if it never yields.

describeGloo("overlap over gloo", () => {
  test("hides communication", async () => {
    expectOverlap(await spawnRanks(2, file, { args: { backend: "gloo" }, timeout: "50s" }));
  });

  // docs/ddp.md says which need a pass that yields.
  test.each<Way>(["pipelined", "hook", "counting"])("%s: while a pass computes that yields", async (way) => {
    const program = new URL("./fixtures/yielding-pass.ts", import.meta.url);
    const outcomes = await spawnRanks(2, program, { args: { way }, timeout: "50s" });
    expect(outcomes.map(({ error }) => error)).toEqual([undefined, undefined]);
    expect(outcomes.map(({ value }) => value)).toEqual([Array(3).fill(true), Array(3).fill(true)]);
  });
});

describeUcc("overlap over ucc", () => {
  test("hides communication", async () => {
    expectOverlap(await spawnRanks(2, file, { args: { backend: "ucc" }, timeout: "50s", ...withUcc }));
  });
});

describeMpi("overlap over mpi", "openmpi", () => {
  test("hides communication", async () => {
    expectOverlap(await spawnRanks(2, file, { args: { backend: "mpi" }, timeout: "50s", ...launchWith("openmpi") }));
  });
});
