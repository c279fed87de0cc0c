import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { type RankOutcome, spawnRanks } from "bun-c10d/testing";
import type { Drained } from "./fixtures/drain.ts";
import type { IdleCpu } from "./fixtures/idle-cpu.ts";
import type { WaitingResult } from "./fixtures/waiting.ts";

setDefaultTimeout(60_000);

async function run(worldSize: number, name: string, args?: unknown): Promise<RankOutcome[]> {
  const outcomes = await spawnRanks(worldSize, new URL(`./fixtures/${name}.ts`, import.meta.url), { args });
  for (const { rank, exitCode, signal, error } of outcomes) {
    expect({ rank, exitCode, signal, error }).toEqual({ rank, exitCode: 0, signal: null, error: undefined });
  }
  return outcomes;
}

describe("wait()", () => {
  test.concurrent("that expires leaves the Work pending, and its late result correct", async () => {
    const [first, second] = (await run(2, "waiting")).map(({ value }) => value as WaitingResult);
    const timeout = { name: "DistTimeoutError", code: "WAIT_TIMEOUT", details: { op: "allReduce" } };
    expect(first?.errors).toMatchObject({
      single: timeout,
      "single result": { code: "WORK_PENDING" },
      "single again": timeout,
      queued: timeout,
      failing: { code: "OP_TIMEOUT", details: { op: "allReduce", group: "0", peers: [1] } },
    });
    expect(Object.keys(first?.errors ?? {})).toHaveLength(5);
    expect(first?.errors.single?.message).toContain("still pending");
    expect(first?.values).toMatchObject({
      "single pending": true,
      "single late": 3,
      "queued late": [3, 6, 9, 12, 15, 18],
      driven: true,
      "driven twice": true,
      "driven result": 3,
      "driven awaited": 3,
      both: true,
      "both awaited": 3,
      "failing awaited": true,
    });
    expect(first?.values["single ms"]).toBeWithin(140, 2_000);
    expect(first?.values["queued ms"]).toBeWithin(140, 2_000);
    expect(first?.values["failing ms"]).toBeWithin(590, 2_400);
    expect(second?.errors).toEqual({});
    expect(second?.values).toMatchObject({ "single late": 3, "queued late": [3, 6, 9, 12, 15, 18] });
  });

  for (const mode of ["await", "wait", "idle"] as const) {
    test.concurrent(`a pending op costs next to no processor time: ${mode}`, async () => {
      const [first] = (await run(2, "idle-cpu", mode)).map(({ value }) => value as IdleCpu);
      console.log(`processor load of ${mode}: ${((first?.load ?? 1) * 100).toFixed(2)} %`);
      expect(first?.ms).toBeGreaterThan(1_800);
      expect(first?.load).toBeLessThan(0.05);
    });
  }
});

test.concurrent("destroyProcessGroup() waits for the ops in flight", async () => {
  const [first, second] = (await run(2, "drain")).map(({ value }) => value as Drained);
  for (const drained of [first, second]) {
    expect(drained).toMatchObject({ sums: [0, 3, 6, 9, 12, 15, 18, 21, 24, 27], completed: true });
  }
  expect(first?.ms).toBeWithin(400, 10_000);
});
