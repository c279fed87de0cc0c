import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { describeGloo } from "../../src/backends/gloo/fixtures/availability.ts";
import { describeMpi, launchWith } from "../../src/backends/mpi/fixtures/availability.ts";
import { describeUcc, spawn as withUcc } from "../../src/backends/ucc/fixtures/availability.ts";
import { type RankOutcome, type ReportedError, spawnRanks, workerRanks } from "../../src/testing/index.ts";
import { type DifferingArgs, lines } from "./fixtures/differing-ranks.ts";

setDefaultTimeout(60_000);

const file = new URL("./fixtures/differing-ranks.ts", import.meta.url);
const modes = ["await", "wait"] as const;
const place = (rank: number): RegExp =>
  new RegExp(String.raw`^\S*differing-ranks\.ts:${rank === 1 ? lines.other : lines.usual}:\d+$`);

/**
 * The error of each rank names rank 1 and another one, and the line of each. On a machine that is too busy, a rank may
 * publish its line too late for another one.
 */
function check(outcomes: readonly Pick<RankOutcome, "rank" | "value">[]): void {
  expect(outcomes).toHaveLength(3);
  let known = 0;
  for (const { rank, value } of outcomes) {
    const { code, message = "", details } = (value ?? {}) as Partial<ReportedError>;
    expect([code, details?.calls?.length]).toEqual(["DESYNC", 2]);
    expect(details?.callSite).toMatch(place(rank));
    const calls = details?.calls ?? [];
    expect(calls.map((call) => call.rank)).toContain(1);
    if (calls.some((call) => call.rank === rank)) expect(calls[0]?.rank).toBe(rank);
    for (const call of calls) {
      expect(call.call.toLowerCase()).toContain(call.rank === 1 ? "broadcast" : "allreduce");
      if (call.rank !== rank && call.callSite === undefined) continue;
      expect(call.callSite).toMatch(place(call.rank));
      if (call.rank !== rank) known++;
    }
    const placed = calls.filter(({ callSite }) => callSite !== undefined);
    const ranks = [...new Set([...placed.map((call) => call.rank), rank])].sort();
    const text = ranks.map((each) => String.raw`at \S+differing-ranks\.ts:\d+:\d+ on rank ${each}`).join(", ");
    expect(message).toMatch(new RegExp(`; called ${text}$`));
  }
  expect(known).toBeGreaterThanOrEqual(2);
}

type Backend = readonly [title: string, args: Omit<DifferingArgs, "mode">, options?: object];
const onGloo: Backend = ["gloo", { backend: "gloo" }];
const onUcc: Backend = ["ucc", { backend: "ucc" }, withUcc];
const onMpi: Backend = ["mpi", { backend: "mpi" }, launchWith("openmpi")];
const detail = { env: { TORCH_DISTRIBUTED_DEBUG: "DETAIL" } };

function testPlaces([title, args, options]: Backend, more: object = {}): void {
  test.each(modes)(`${title}, %s`, async (mode) => {
    check(await spawnRanks(3, file, { ...options, ...more, args: { ...args, mode }, timeout: "40s" }));
  });
}

describeGloo("the error of calls that differ has the lines of both", () => {
  testPlaces(onGloo);
  describe("at debug level DETAIL", () => testPlaces(onGloo, detail));
});
describeUcc("the error of calls that differ has the lines of both", () => {
  testPlaces(onUcc);
  describe("at debug level DETAIL", () => testPlaces(onUcc, detail));
});
describeMpi("the error of calls that differ has the lines of both", "openmpi", () => testPlaces(onMpi));

test.each(modes)("the error of calls that differ has the lines of both, fake, %s", async (mode) => {
  check(await workerRanks(3, file, { args: { backend: "fake", mode } }));
});
