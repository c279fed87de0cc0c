import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { emulatorEnv } from "../../src/backends/nccl/fixtures/emulator.ts";
import type { CommHook } from "../../src/ddp/index.ts";
import { faults, Hold } from "../../src/tensor/cuda/fixtures/cuda-emulator.ts";
import { cuda } from "../../src/tensor/index.ts";
import { spawnRanks } from "../../src/testing/index.ts";
import { cudaRanks } from "./fixtures/cuda-ranks.ts";
import { numbers } from "./fixtures/cuda-training.ts";
import {
  harm,
  mutants,
  nextEnd,
  type Situation,
  situationNames,
  situations,
  trained,
  type Waited,
} from "./fixtures/cuda-waits.ts";

setDefaultTimeout(60_000);

// The order of what DistributedDataParallel does on a device, shown by streams that are held up, and by mutants that leave
// out one of its waits each.

const before = faults();
afterAll(() => expect(faults()).toBe(before));

const floats = (...values: number[]) => Float32Array.from(values);
const program = new URL("./fixtures/cuda-waits.ts", import.meta.url);

/** Whether all ranks get the averages in a situation. */
async function isRight(situation: Situation, hook?: CommHook): Promise<boolean> {
  const averages = await cudaRanks(2, (each) => situations[situation](each, hook));
  return averages.every((average) => String(average) === "0.5,5");
}

describe("the streams of DDP on a device", () => {
  test.each(situationNames)("%s", async (situation) => {
    expect(await isRight(situation)).toBe(true);
  });

  test.each(Object.entries(mutants))("it is noticed if %s", async (_, { caughtBy, hook, apply }) => {
    const restore = apply?.();
    try {
      expect(await isRight(caughtBy, hook)).toBe(false);
    } finally {
      restore?.();
    }
  });

  test("the same in processes, over the emulated NCCL", async () => {
    const outcomes = await spawnRanks(2, program, { timeout: "50s", env: emulatorEnv() });
    expect(outcomes.map(({ error }) => error)).toEqual([undefined, undefined]);
    const waited = outcomes.map(({ value }) => value as Waited);
    const isRightOver = (name: string) => waited.every(({ averages }) => String(averages[name]) === "0.5,5");
    expect(situationNames.filter((name) => !isRightOver(name))).toEqual([]);
    expect(Object.keys(mutants).filter(isRightOver)).toEqual([]);
    expect(waited.map((each) => each.faults)).toEqual(["0 faults", "0 faults"]);
  });

  test("an exchange ends while the stream of its gradient is busy with others, and the pass does not wait for that", async () => {
    await cudaRanks(2, async (each) => {
      const { ddp } = await trained(each);
      const gradient = each.on(each.rank, 5);
      const pass = ddp.backward();
      const end = nextEnd(each.group);
      pass.ready("w", gradient);
      const held = new Hold(each.user);
      await end;
      await pass.finish();
      const read = numbers(gradient);
      expect(each.user.query()).toBe(false);
      held[Symbol.dispose]();
      expect(await read).toEqual([0.5, 5]);
    });
  });

  test("gradients of several streams", async () => {
    await cudaRanks(2, async (each) => {
      const { ddp, copies } = await trained(each);
      using other = new cuda.CudaStream({ device: each.user.device });
      const gradient = each.on(each.rank, 5);
      other.waitStream(each.user);
      const held = new Hold(other);
      const pass = ddp.backward();
      cuda.withStream(other, () => {
        gradient.copyFrom(floats(each.rank, 9));
        pass.ready("w", gradient);
      });
      const finished = pass.finish();
      await harm(() => copies.query());
      held[Symbol.dispose]();
      await finished;
      expect(await numbers(gradient)).toEqual([0.5, 9]);
    });
  });
});
