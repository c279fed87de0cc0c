import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { describeEmulator, emulatorEnv } from "./fixtures/emulator.ts";
import type { LostDeviceArgs } from "./fixtures/lost-device.ts";

setDefaultTimeout(60_000);

interface Outcome {
  readonly state: string;
  readonly name?: string;
  readonly code?: string;
  readonly message?: string;
  readonly tookMs?: number;
}

describeEmulator("a device that is lost, on the emulators", () => {
  test.each([
    { isBound: true, isBefore: true },
    { isBound: true, isBefore: false },
    { isBound: false, isBefore: true },
  ])("fails the group there and on the other ranks: %p", async (args: LostDeviceArgs) => {
    const file = new URL("./fixtures/lost-device.ts", import.meta.url);
    const ranks = await spawnRanks(2, file, { args, env: emulatorEnv() });
    for (const { error, exitCode } of ranks) {
      expect({ error: error?.stack, exitCode }).toEqual({ error: undefined, exitCode: 0 });
    }
    const [other, own] = ranks.map(({ value }) => value) as [Outcome, Outcome];
    expect(own).toMatchObject({ state: "FAILED", name: "CudaError", code: "CUDA_CONTEXT_LOST" });
    expect(own.message).toContain("CUDA_ERROR_ILLEGAL_ADDRESS: ");
    expect(own.message).toContain("start the process again");
    expect(other.state).toBe("FAILED");
    expect(other.message).toContain("rank 1");
    expect(other.tookMs).toBeLessThan(5_000);
  });
});
