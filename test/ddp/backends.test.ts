import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { localRanks, type RankOutcome, spawnRanks } from "bun-c10d/testing";
import { describeGloo } from "../../src/backends/gloo/fixtures/availability.ts";
import { describeMpi, launchWith } from "../../src/backends/mpi/fixtures/availability.ts";
import { describeUcc, spawn as withUcc } from "../../src/backends/ucc/fixtures/availability.ts";
import { train as trainAs } from "./fixtures/train.ts";
import { type Trouble, type TroubleEnd, troubles } from "./fixtures/trouble.ts";

setDefaultTimeout(60_000);

// Trains over every backend, and lets rank 1 of a job fail.

const train = new URL("./fixtures/train.ts", import.meta.url);
const trouble = new URL("./fixtures/trouble.ts", import.meta.url);

/** Digests of what two ranks of the fake backend train: sums of two numbers do not depend on their order. */
let reference: Record<string, string>;
beforeAll(async () => {
  const [first, second] = await localRanks(2, ({ rank }) => trainAs(rank));
  if (first === undefined) throw new Error("no ranks");
  expect(second).toEqual(first);
  expect(Object.keys(first)).toEqual(["usual", "views", "unused", "static"]);
  expect(new Set(Object.values(first)).size).toBe(3);
  reference = first;
});

function expectTrained(outcomes: readonly RankOutcome[]): void {
  expect(outcomes.map(({ rank, exitCode, error }) => ({ rank, exitCode, error }))).toEqual(
    [0, 1].map((rank) => ({ rank, exitCode: 0, error: undefined })),
  );
  expect(outcomes.map(({ value }) => value)).toEqual([reference, reference]);
}

/** What rank 0 and rank 1 are told. */
const expected: Readonly<Record<Trouble, readonly [code: string, text: string][]>> = {
  "missing gradient": [
    ["OP_TIMEOUT", "while averaging bucket 1 (weight)"],
    ["REDUCTION_NOT_FINISHED", "Parameters which did not receive grad for rank 1: weight (index 0)."],
  ],
  "hook throws": [
    // In which bucket depends on how soon it learns of that.
    ["PEER_LOST", "in communication hook without a name, bucket "],
    ["HOOK_FAILED", "failed in bucket 1 (weight): no more memory"],
  ],
  "hook hangs": [
    ["OP_TIMEOUT", "in communication hook without a name, bucket 1 (weight)"],
    ["HOOK_TIMEOUT", "has not finished bucket 1 (weight) within 1.5 s"],
  ],
  "other parameters": [
    ["PARAMETERS_DIFFER", "tensor 0 is weight, float32 of shape [5000], on rank 0, and bias"],
    ["PARAMETERS_DIFFER", "tensor 0 is bias, float32 of shape [5000], on rank 1, and weight"],
  ],
  killed: [
    ["PEER_LOST", "while averaging bucket"],
    ["", ""],
  ],
};

function expectTroubles(outcomes: readonly RankOutcome[], given: readonly Trouble[]): void {
  for (const { rank, reports } of outcomes) {
    const ends = reports as readonly TroubleEnd[];
    expect(ends.map((each) => each.trouble)).toEqual(given.filter((each) => rank === 0 || each !== "killed"));
    for (const { trouble: kind, code, message, peers } of ends) {
      const [wanted, text] = expected[kind][rank] ?? ["", ""];
      expect({ kind, rank, code }).toEqual({ kind, rank, code: wanted });
      expect(message).toContain(text);
      // The one that is at fault is named.
      if (rank === 0) expect({ kind, peers }).toEqual({ kind, peers: [1] });
    }
  }
}

describeGloo("DDP over gloo", () => {
  test.concurrent("trains", async () => {
    expectTrained(await spawnRanks(2, train, { args: { backend: "gloo" } }));
  });
  test.concurrent("a rank that fails", async () => {
    expectTroubles(await spawnRanks(2, trouble, { args: { backend: "gloo", troubles } }), troubles);
  });
});

describeUcc("DDP over ucc", () => {
  test.concurrent("trains", async () => {
    expectTrained(await spawnRanks(2, train, { args: { backend: "ucc" }, timeout: "50s", ...withUcc }));
  });
  test.concurrent("a rank that fails", async () => {
    const args = { backend: "ucc", troubles };
    expectTroubles(await spawnRanks(2, trouble, { args, timeout: "50s", ...withUcc }), troubles);
  });
});

describeMpi("DDP over mpi", "openmpi", () => {
  test.concurrent("trains", async () => {
    const options = { args: { backend: "mpi" }, timeout: "50s", ...launchWith("openmpi") };
    expectTrained(await spawnRanks(2, train, options));
  });
  test.concurrent("a rank that fails", async () => {
    // Killed: mpirun ends all ranks when one of them is.
    const some = troubles.filter((each) => each !== "killed");
    const options = { args: { backend: "mpi", troubles: some }, timeout: "50s", ...launchWith("openmpi") };
    expectTroubles(await spawnRanks(2, trouble, options), some);
  });
});
