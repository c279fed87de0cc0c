import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { describeEmulator, emulatorEnv } from "./fixtures/emulator.ts";

setDefaultTimeout(60_000);

describeEmulator("ops that wait for their communicator, on the emulators", () => {
  test("use their stream as it was when they were called", async () => {
    const file = new URL("./fixtures/late-submission.ts", import.meta.url);
    const ranks = await spawnRanks(2, file, { args: null, env: emulatorEnv() });
    for (const { value, error, exitCode } of ranks) {
      expect({ value, error: error?.stack, exitCode }).toEqual({
        value: { sums: [3, 30, 300], results: ["sum", "sum"], faults: "0 faults" },
        error: undefined,
        exitCode: 0,
      });
    }
  });
});
