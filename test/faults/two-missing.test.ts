import { expect, setDefaultTimeout, test } from "bun:test";
import { type RankOutcome, spawnRanks, workerRanks } from "bun-c10d/testing";
import { describeGloo } from "../../src/backends/gloo/fixtures/availability.ts";
import { describeMpi, launchWith } from "../../src/backends/mpi/fixtures/availability.ts";
import { describeUcc, spawn as withUcc } from "../../src/backends/ucc/fixtures/availability.ts";
import type { TwoMissingArgs, TwoMissingResult } from "./two-missing.ts";

setDefaultTimeout(60_000);

const file = new URL("./fixtures/two-missing-rank.ts", import.meta.url);
const missing = [1, 2];
const modes = ["await", "wait"] as const;
const argsOf = (backend: string, mode: TwoMissingArgs["mode"]): TwoMissingArgs => ({ backend, mode, missing });

function check(
  outcomes: readonly Pick<RankOutcome, "rank" | "reports" | "error">[],
  mode: TwoMissingArgs["mode"],
): void {
  expect(outcomes.map(({ rank, error }) => ({ rank, error }))).toEqual(
    outcomes.map(({ rank }) => ({ rank, error: undefined })),
  );
  for (const { rank, reports } of outcomes.filter((each) => !missing.includes(each.rank))) {
    const [result] = reports as readonly TwoMissingResult[];
    expect({ rank, peers: result?.peers, sum: result?.sum }).toEqual({ rank, peers: missing, sum: 3 });
    if (mode === "await") expect(result?.message).toContain("; ranks 1, 2 did not arrive; called at ");
    for (const each of missing)
      expect(result?.message).toMatch(
        new RegExp(`\\n  rank ${each} \\(pid \\d+\\), which has not called it: in no op`),
      );
  }
}

describeGloo("all ranks that are missing are named, and the others go on without them: gloo", () => {
  test.concurrent.each(modes)("%s", async (mode) => {
    check(await spawnRanks(4, file, { timeout: "55s", args: argsOf("gloo", mode) }), mode);
  });
});

describeUcc("all ranks that are missing are named, and the others go on without them: ucc", () => {
  test.concurrent.each(modes)("%s", async (mode) => {
    check(await spawnRanks(4, file, { timeout: "55s", args: argsOf("ucc", mode), ...withUcc }), mode);
  });
});

describeMpi("all ranks that are missing are named, and the others go on without them: mpi", "openmpi", () => {
  test.concurrent.each(modes)("%s", async (mode) => {
    check(await spawnRanks(4, file, { timeout: "55s", args: argsOf("mpi", mode), ...launchWith("openmpi") }), mode);
  });
});

test.concurrent.each(modes)(
  "all ranks that are missing are named, and the others go on without them: fake > %s",
  async (mode) => {
    check(await workerRanks(4, file, { timeout: "55s", args: argsOf("fake", mode) }), mode);
  },
);
