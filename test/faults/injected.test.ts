import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "bun-c10d/testing";
import { allWell } from "../../src/backends/fixtures/all-well.ts";
import { describeEmulator, emulatorEnv } from "../../src/backends/nccl/fixtures/emulator.ts";
import { modes } from "./cell.ts";
import {
  FAULTY_OP,
  FAULTY_RANK,
  type InjectedArgs,
  type InjectedResult,
  injectionNames,
  injectionOf,
  LIMIT_MS,
} from "./injected.ts";

setDefaultTimeout(60_000);

const SOON_MS = 3_000;
const full = process.env.C10D_SWEEP === "full";
const turn = Number(process.env.C10D_SAMPLE ?? Math.floor(Date.now() / 1_000) % 1_000);
const worldSizes = [2, 4];
const file = new URL("./fixtures/injected-rank.ts", import.meta.url);

const cells = injectionNames.flatMap((name, i) => {
  const all = worldSizes.flatMap((worldSize) => modes.map((mode) => ({ name, mode, worldSize })));
  return full ? all : all.slice((turn + i) % all.length).slice(0, 1);
});
if (!full) console.log(`sample: faults within nccl (emulator) C10D_SAMPLE=${turn}`);

describeEmulator("a fault within nccl, on the emulators", () => {
  describe.each(cells)("$name, $mode, $worldSize ranks", ({ name, mode, worldSize }) => {
    const { emulator, at, own, others, isNamed, says } = injectionOf(name);
    test("is an error in time on every rank", async () => {
      const args: InjectedArgs = { name, mode };
      const env = { ...emulatorEnv(), NCCL_EMULATOR_FAULTS: emulator };
      const results = allWell<InjectedResult>(await spawnRanks(worldSize, file, { args, env, timeout: "40s" }));
      for (const [rank, { ended, error, ms, next, misuse, destroyMs }] of results.entries()) {
        expect({ rank, misuse }).toEqual({ rank, misuse: undefined });
        expect(destroyMs).toBeLessThan(2_500);
        if (at === "never") {
          expect({ rank, error, ended }).toEqual({ rank, error: undefined, ended: 6 });
          continue;
        }
        const isFaulty = rank === FAULTY_RANK;
        const what = { rank, kind: `${error?.name} ${error?.code}`, text: error?.message };
        expect(what).toEqual({ ...what, kind: isFaulty ? own : others });
        if (isFaulty) expect(error?.message).toContain(says);
        if (isNamed && (mode === "await" || worldSize === 2))
          expect(error?.details?.peers ?? []).toEqual(isFaulty ? expect.anything() : [FAULTY_RANK]);
        expect(ms).toBeLessThan((own.includes("TIMEOUT") ? LIMIT_MS : 0) + SOON_MS);
        if (at === "creation") continue;
        expect({ rank, next }).toEqual({ rank, next: "GROUP_FAILED" });
        // Nobody waits for an asynchronous error: it is looked for now and then.
        if (name === "an asynchronous error") expect(ended).toBeGreaterThanOrEqual(FAULTY_OP);
        else expect({ rank, ended }).toEqual({ rank, ended: FAULTY_OP });
      }
    });
  });
});
