import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { allCells, type Cell, nameOf, sampleCells } from "./cell.ts";
import { ADVICE, expectedKinds, expectedTexts } from "./expectation.ts";
import { kinds, type LargeGroup, type LargeGroupReport } from "./fixtures/large-group.ts";
import type { ManyOps, ManyOpsReport } from "./fixtures/many-ops.ts";
import { isOnPage, listedOnPage, rowOnPage, saidIn } from "./page.ts";
import { type Place, places } from "./place.ts";
import { runCells } from "./run-cells.ts";
import { caseOf } from "./ways.ts";

const full = process.env.C10D_SWEEP === "full";
const DAY_MS = 86_400_000;
const turn = Number(process.env.C10D_SAMPLE ?? Math.floor(Date.now() / DAY_MS));
const cells = full ? allCells() : sampleCells(turn);

setDefaultTimeout(full ? 1_800_000 : 120_000);

if (!full) console.log(`sample: calls that differ C10D_SAMPLE=${turn}: ${cells.length} cells`);

const reasons = new Map<Place, string | undefined>();
for (const place of places) reasons.set(place, await place.whyNot());

describe("calls that differ between ranks", () => {
  for (const place of new Set(cells.map((cell) => cell.place))) {
    const those = cells.filter((cell) => cell.place === place);
    const reason = reasons.get(place);
    if (reason !== undefined) console.log(`skip calls that differ, ${place.name}: ${reason}`);
    // Each cell waits most of the time, but all cells of the matrix at once would compete for processors.
    const runs = full ? test : test.concurrent;
    runs.skipIf(reason !== undefined)(`${place.name}: ${those.length} cells`, async () => {
      const results = await runCells(those, console.log);
      const bad = results.flatMap(({ cell, problems }) => problems.map((problem) => `${nameOf(cell)}: ${problem}`));
      expect(bad).toEqual([]);
      expect(results.length).toBe(those.length);
      for (const result of results) {
        if (!isOnPage(result.cell)) continue;
        const [error, message] = saidIn(result);
        const [errorOnPage, messageOnPage] = rowOnPage(result.cell.name, place) ?? [];
        expect(error).toBe(`${errorOnPage}`);
        // The wording of a closed connection varies.
        if (error === "DistBackendError DESYNC") expect(message).toBe(`${messageOnPage}`);
      }
    });
  }
});

describe("one of many calls in flight differs, and the last ones are waited for first", () => {
  const orders = { groups: full ? 20 : 4, ops: 40, odd: 10 };
  for (const place of places) {
    const reason = reasons.get(place);
    if (reason !== undefined) console.log(`skip many calls, ${place.name}: ${reason}`);
    const runs = full ? test : test.concurrent;
    runs.skipIf(reason !== undefined)(place.name, async () => {
      const args: ManyOps = { backend: place.backend, ...orders };
      const file = new URL("./fixtures/many-ops.ts", import.meta.url);
      const outcomes = await place.run(3, file, { args, timeout: 60_000 });
      const expected: ManyOpsReport = { sums: [3], errors: ["DESYNC"], undetected: 0 };
      for (const outcome of outcomes) expect(outcome).toMatchObject({ value: expected, exitCode: 0 });
    });
  }
});

describe("a group so large that not all ranks compare their calls with each other", () => {
  const [gloo] = places.filter(({ name }) => name === "gloo");
  const odd = 4;
  test.skipIf(gloo === undefined || reasons.get(gloo) !== undefined)(
    "all that block have the same error, which blames no rank",
    async () => {
      const args: LargeGroup = { backend: "gloo", odd };
      const file = new URL("./fixtures/large-group.ts", import.meta.url);
      const outcomes = (await gloo?.run(9, file, { args, timeout: 60_000 })) ?? [];
      expect(outcomes.length).toBe(9);
      for (const outcome of outcomes) expect(outcome).toMatchObject({ exitCode: 0 });
      const reports = outcomes.map(({ value }) => value as LargeGroupReport);
      for (const kind of kinds) {
        for (const [i, code] of ["DESYNC", "GROUP_FAILED"].entries()) {
          const said = reports.map((report) => report[kind]?.[i]);
          for (const each of said) {
            expect([each?.code, each?.peers]).toEqual([code, 0]);
            expect(`${each?.names}`).toContain(`rank ${odd} called broadcast(`);
          }
          // By now the ranks have agreed.
          if (code === "GROUP_FAILED") expect(new Set(said.map((each) => each?.names)).size).toBe(1);
        }
      }
    },
  );
});

test("the page has the message of each case at each place, and it is the expected one", () => {
  const wrong = (cell: Cell): string[] => {
    const { end } = caseOf(cell.name);
    const [error = "", message = ""] = rowOnPage(cell.name, cell.place) ?? [];
    const texts = end === "desync" ? expectedTexts(cell).map((text) => text.replace(ADVICE, "")) : [message];
    const named = message.includes(end === "others missing" ? "rank 0" : "rank 1");
    return expectedKinds(cell).includes(error) && texts.includes(message) && named
      ? []
      : [`${nameOf(cell)}: ${error}: ${message}`];
  };
  const shown = allCells().filter(isOnPage);
  expect(shown.flatMap(wrong)).toEqual([]);
  // The page has no rows of cases that no longer exist.
  const known = shown.flatMap(({ name, place }) => [`${name} | ${place.name}`, `${name} | all`]);
  expect(listedOnPage().filter((row) => !known.includes(row))).toEqual([]);
});
