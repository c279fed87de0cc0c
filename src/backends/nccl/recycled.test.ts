import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { describeEmulator, emulatorEnv } from "./fixtures/emulator.ts";

setDefaultTimeout(60_000);

describeEmulator("memory that work of a freed tensor still uses, on the emulators", () => {
  test.each(["one op", "batch"])("is written by an op in another stream after that work: %s", async (args) => {
    const file = new URL("./fixtures/recycled.ts", import.meta.url);
    const [rank] = await spawnRanks(1, file, { args, env: { C10D_BACKEND: "", ...emulatorEnv() } });
    expect(rank?.error?.stack).toBeUndefined();
    expect(rank?.value).toEqual({ isSame: true, isWaiting: true, first: 3 });
  });
});
