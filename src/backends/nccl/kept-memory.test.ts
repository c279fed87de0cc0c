import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { describeEmulator, emulatorEnv } from "./fixtures/emulator.ts";
import type { KeptMemoryArgs } from "./fixtures/kept-memory.ts";

setDefaultTimeout(60_000);

describeEmulator("memory that NCCL knows, on the emulators", () => {
  test.each([
    { isBound: true, kind: "registered" },
    { isBound: false, kind: "registered" },
    { isBound: true, kind: "window" },
  ] as const)("is not freed before NCCL has let go of it: %p", async (args: KeptMemoryArgs) => {
    const file = new URL("./fixtures/kept-memory.ts", import.meta.url);
    for (const { value, error, exitCode } of await spawnRanks(2, file, { args, env: emulatorEnv() })) {
      expect({ value, error: error?.stack, exitCode }).toEqual({
        value: { used: [true, false, true, false], faults: "0 faults" },
        error: undefined,
        exitCode: 0,
      });
    }
  });
});
