import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { describeEmulator, emulatorEnv } from "./fixtures/emulator.ts";
import type { LeavingRankArgs } from "./fixtures/leaving-rank.ts";

setDefaultTimeout(60_000);

interface Outcome {
  readonly code?: string;
  readonly message?: string;
  readonly peers?: readonly number[];
  readonly tookMs?: number;
}

const cases: readonly LeavingRankArgs[] = [true, false].flatMap((isBound) =>
  (["throws", "close", "destroy"] as const).flatMap((how) =>
    [true, false].map((isMade) => ({ isBound, how, isMade, waitsIn: "allReduce" as const })),
  ),
);
const further: readonly LeavingRankArgs[] = [
  { isBound: false, how: "throws", isMade: true, waitsIn: "recv" },
  { isBound: false, how: "in flight", isMade: false, waitsIn: "allReduce" },
];

describeEmulator("a rank that leaves the group, on the emulators", () => {
  test.each([...cases, ...further])("is lost to those that wait for it: %p", async (args) => {
    const file = new URL("./fixtures/leaving-rank.ts", import.meta.url);
    const ranks = await spawnRanks(args.how === "in flight" ? 3 : 2, file, { args, env: emulatorEnv() });
    for (const { error, exitCode } of ranks) {
      expect({ error: error?.stack, exitCode }).toEqual({ error: undefined, exitCode: 0 });
    }
    const { code, peers, message, tookMs } = ranks.map(({ value }) => value as Outcome)[0] ?? {};
    expect({ code, peers, message }).toMatchObject({ code: "PEER_LOST", peers: [1] });
    expect(message).toContain("rank 1");
    expect(tookMs).toBeLessThan(2_500);
  });
});
