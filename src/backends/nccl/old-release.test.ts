import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { describeEmulator, emulatorEnv } from "./fixtures/emulator.ts";

setDefaultTimeout(60_000);

describeEmulator("an old release of NCCL, on the emulators", () => {
  test.each([true, false])("says which one has what it lacks: bound %p", async (isBound) => {
    const file = new URL("./fixtures/old-release.ts", import.meta.url);
    const [only] = await spawnRanks(1, file, { args: { isBound }, env: emulatorEnv("2.18.5") });
    expect({ error: only?.error?.stack, exitCode: only?.exitCode }).toEqual({ error: undefined, exitCode: 0 });
    const [float8, registered, opened] = (only?.value ?? []) as readonly string[];
    expect(float8).toContain("does not take float8_e5m2 tensors: it needs NCCL 2.24, this is 2.18.5 (it takes");
    expect(registered).toContain(
      'registerMemory: backend "nccl" does not support it: it needs NCCL 2.19, this is 2.18.5',
    );
    expect(opened).toContain('openWindow: backend "nccl" does not support it: it needs NCCL 2.27, this is 2.18.5');
  });
});
