import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Place } from "../desync/place.ts";
import { allCells, localPlaces, nameOfCell, sampleCells } from "./cell.ts";
import { collectiveFaults } from "./collective-faults.ts";
import { collectivesNotHere, correctCollectives } from "./correct-collectives.ts";
import { correctMessages, messagesNotHere } from "./correct-messages.ts";
import { messageFaults } from "./message-faults.ts";
import { columnsOnPage, outcomeOnPage } from "./page.ts";
import { programs } from "./program.ts";
import { runPrograms } from "./run-programs.ts";

const full = process.env.C10D_SWEEP === "full";
const DAY_MS = 86_400_000;
const turn = Number(process.env.C10D_SAMPLE ?? Math.floor(Date.now() / DAY_MS));
const cells = full ? allCells() : sampleCells(turn);

setDefaultTimeout(full ? 3_600_000 : 120_000);

if (!full) console.log(`sample: programs of MPI-CorrBench C10D_SAMPLE=${turn}: ${cells.length} runs`);

const reasons = new Map<Place, string | undefined>();
for (const place of localPlaces) reasons.set(place, await place.whyNot());

describe("programs of MPI-CorrBench", () => {
  for (const place of localPlaces) {
    const those = cells.filter((cell) => cell.place === place);
    const reason = reasons.get(place);
    if (reason !== undefined) console.log(`skip programs of MPI-CorrBench, ${place.name}: ${reason}`);
    test.concurrent.skipIf(reason !== undefined)(`${place.name}: ${those.length} runs`, async () => {
      const results = await runPrograms(those, console.log);
      expect(results.length).toBe(those.length);
      const bad = results.flatMap(({ cell, problems }) => problems.map((each) => `${nameOfCell(cell)}: ${each}`));
      expect(bad).toEqual([]);
      for (const { cell, outcome } of results) {
        expect([nameOfCell(cell), outcome]).toEqual([nameOfCell(cell), `${outcomeOnPage(cell)}`]);
      }
    });
  }
});

describe("the list of programs", () => {
  test("has each program of MPI-CorrBench once", () => {
    const lists = [
      [27, collectiveFaults.map(({ program }) => program)],
      [44, messageFaults.map(({ program }) => program)],
      [72, [...correctCollectives, ...collectivesNotHere].flatMap((each) => each.programs)],
      [40, [...correctMessages, ...messagesNotHere].flatMap((each) => each.programs)],
    ] as const;
    for (const [count, names] of lists) expect([names.length, new Set(names).size]).toEqual([count, count]);
  });

  test("is that of the page", () => {
    for (const program of programs.keys()) expect([program, columnsOnPage(program)]).not.toEqual([program, undefined]);
  });
});
