import { expect, setDefaultTimeout, test } from "bun:test";
import { describeEmulator } from "../../src/backends/nccl/fixtures/emulator.ts";
import { allNcclCells, isOnNcclPage, nameOfNccl, ncclPlaces, sampleNcclCells } from "./nccl-cell.ts";
import { ncclRow, ncclSaid } from "./nccl-page.ts";
import { runNcclCells } from "./run-nccl-cells.ts";

const full = process.env.C10D_SWEEP === "full";
const DAY_MS = 86_400_000;
const turn = Number(process.env.C10D_SAMPLE ?? Math.floor(Date.now() / DAY_MS));
const cells = full ? allNcclCells() : sampleNcclCells(turn);

setDefaultTimeout(full ? 1_800_000 : 120_000);

if (!full) console.log(`sample: calls that differ over nccl (emulator) C10D_SAMPLE=${turn}: ${cells.length} cells`);

describeEmulator("calls that differ over nccl, on the emulators", () => {
  for (const place of ncclPlaces) {
    const those = cells.filter((cell) => cell.place === place);
    const runs = full ? test : test.concurrent;
    runs(`${place}: ${those.length} cells`, async () => {
      const results = await runNcclCells(those, console.log);
      const bad = results.flatMap(({ cell, problems }) => problems.map((problem) => `${nameOfNccl(cell)}: ${problem}`));
      expect(bad).toEqual([]);
      expect(results.length).toBe(those.length);
      for (const result of results) {
        if (isOnNcclPage(result.cell)) expect(ncclSaid(result)).toBe(`${ncclRow(result.cell)}`);
      }
    });
  }
});

test("the page has what each case of nccl leads to at each place", () => {
  const missing = allNcclCells().filter(
    (cell) => isOnNcclPage(cell) && !ncclRow(cell)?.match(/^`\w+ \w+`$|^not noticed$/),
  );
  expect(missing.map(nameOfNccl)).toEqual([]);
});
