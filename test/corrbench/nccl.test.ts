import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "bun-c10d/testing";
import { describeEmulator, emulatorEnv } from "../../src/backends/nccl/fixtures/emulator.ts";
import type { Orders } from "./fixtures/rank.ts";
import { correct } from "./program.ts";
import type { RankReport } from "./report.ts";
import { modes } from "./shape.ts";

const full = process.env.C10D_SWEEP === "full";
const DAY_MS = 86_400_000;
const turn = Number(process.env.C10D_SAMPLE ?? Math.floor(Date.now() / DAY_MS));
const all = [2, 4].flatMap((size) => modes.map((mode) => ({ size, mode })));
const cells = full ? all : all.slice(turn % all.length).slice(0, 1);

setDefaultTimeout(120_000);

// With programs that are wrong, NCCL waits: test/desync/nccl.test.ts.
const here = correct.filter(({ lacks }) => lacks?.nccl === undefined);
const file = new URL("./fixtures/rank.ts", import.meta.url);
if (!full) console.log(`sample: corrbench on nccl (emulator) C10D_SAMPLE=${turn}`);
for (const { name, lacks } of correct) {
  if (lacks?.nccl !== undefined) console.log(`skip corrbench on nccl (emulator), ${name}: ${lacks.nccl}`);
}

describeEmulator("correct programs of MPI-CorrBench over nccl, on the emulators", () => {
  test.each(cells)("$size ranks, $mode", async ({ size, mode }) => {
    const programs = here.map(({ name }) => ({ program: name, mode, timeoutMs: 20_000 }));
    const args: Orders = { backend: "nccl", onDevice: true, programs };
    const outcomes = await spawnRanks(size, file, { args, env: emulatorEnv(), timeout: 110_000 });
    for (const { rank, exitCode, error, reports } of outcomes) {
      const ended = (reports as readonly RankReport[]).map((each) => ({
        program: programs[each.index]?.program,
        error: each.error?.message,
      }));
      expect({ rank, exitCode, error: error?.message }).toEqual({ rank, exitCode: 0, error: undefined });
      expect(ended).toEqual(here.map(({ name }) => ({ program: name, error: undefined })));
    }
  });
});
