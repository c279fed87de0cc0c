import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "bun-c10d/testing";
import type { CyclesArgs, Footprint } from "./fixtures/cycles.ts";
import type { ManyOps, ManyOpsResult } from "./fixtures/many-ops.ts";

setDefaultTimeout(120_000);

const MB = 1 << 20;

async function run<Result>(name: string, args: CyclesArgs | ManyOps): Promise<Result[]> {
  const file = new URL(`./fixtures/${name}.ts`, import.meta.url);
  const outcomes = await spawnRanks(2, file, { args, timeout: 110_000 });
  for (const { rank, exitCode, signal, error, stderr } of outcomes) {
    expect({ rank, exitCode, signal, error, stderr }).toEqual({
      rank,
      exitCode: 0,
      signal: null,
      error: undefined,
      stderr: "",
    });
  }
  return outcomes.map(({ value }) => value as Result);
}

test("10 000 overlapping ops under garbage collection: correct, in order, nothing leaked", async () => {
  const results = await run<ManyOpsResult>("many-ops", { ops: 10_000, rounds: 6 });
  for (const { wrong, rss, overlapping, pinned, ms } of results) {
    console.log(
      `6 × 10 000 all-reduces in ${ms.toFixed(0)} ms, RSS ${rss.map((bytes) => Math.round(bytes / MB)).join(" ")} MB`,
    );
    expect({ wrong, pinned }).toEqual({ wrong: 0, pinned: 0 });
    expect(overlapping).toBeGreaterThan(1_000);
    const [, , settled = 0] = rss;
    expect((rss.at(-1) ?? 0) - settled).toBeLessThan(16 * MB);
  }
});

test("50 groups created and closed leak no descriptor and no thread", async () => {
  for (const footprints of await run<Footprint[]>("cycles", { what: "group", count: 50 })) flat(footprints);
});

test("20 times initProcessGroup() and destroyProcessGroup() in one pair of processes", async () => {
  for (const footprints of await run<Footprint[]>("cycles", { what: "world", count: 20 })) flat(footprints);
});

/** The runtime may start its own threads at any time, but a leak of ours would be one per cycle, ten per step. */
function flat(footprints: readonly Footprint[]): void {
  const [first, last] = [footprints[0], footprints.at(-1)];
  if (first === undefined || last === undefined) throw new Error("no footprints");
  console.log(
    footprints
      .map((each) => `${each.descriptors.length} fds, ${each.threads} threads, ${Math.round(each.rss / MB)} MB`)
      .join("; "),
  );
  const added = last.descriptors.filter((each) => !first.descriptors.includes(each));
  expect(last.descriptors.length > first.descriptors.length ? added : []).toEqual([]);
  expect(last.threads - first.threads).toBeLessThan(4);
  expect(last.rss - first.rss).toBeLessThan(24 * MB);
}
