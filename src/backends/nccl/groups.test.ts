import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { spawnRanks } from "../../testing/index.ts";
import { describeEmulator, emulatorEnv } from "./fixtures/emulator.ts";
import type { GroupsArgs } from "./fixtures/groups.ts";

setDefaultTimeout(60_000);
const folder = mkdtempSync(join(tmpdir(), "c10d-nccl-groups-"));
afterAll(() => rmSync(folder, { recursive: true }));

function outcomes(args: GroupsArgs, version?: string): Promise<unknown[]> {
  return valuesOf("groups", 3, args, version);
}

async function valuesOf(fixture: string, size: number, args: object, version?: string): Promise<unknown[]> {
  const file = new URL(`./fixtures/${fixture}.ts`, import.meta.url);
  const ranks = await spawnRanks(size, file, { args, env: emulatorEnv(version) });
  for (const { error, exitCode, stderr } of ranks) {
    expect({ error: error?.stack, exitCode, stderr: exitCode === 0 ? "" : stderr }).toEqual({
      error: undefined,
      exitCode: 0,
      stderr: "",
    });
  }
  return ranks.map(({ value }) => value);
}

describeEmulator("groups of nccl, on the emulators", () => {
  const results = [
    { sums: [6, 4, null], received: [1, 3] },
    { sums: [6, null, 5], received: [2, 1] },
    { sums: [6, 4, 5], received: [1, 2] },
  ].map((each) => ({ ...each, misuse: "0 faults" }));

  test.each([undefined, "2.18.5"])(
    "bound to a device, share its communicator and are split from it: %s",
    async (version) => {
      const path = join(folder, `bound-${version}`);
      // There is one unique id: that of the default group.
      const keys = ["default_pg/0//cuda//0"];
      expect(await outcomes({ isBound: true, path }, version)).toEqual(results.map((each) => ({ ...each, keys })));
    },
  );

  test("bound to none, have communicators of their own, as pairs of ranks have for messages", async () => {
    const path = join(folder, "lazy");
    const groups = ["0//1//cuda//0", "0//2//cuda//0", "0//cuda//0", "0//cuda//0:2"];
    const keys = [...groups, "0//0:split:1:1,2//cuda//0"].map((key) => `default_pg/${key}`).sort();
    expect(await outcomes({ isBound: false, path })).toEqual(results.map((each) => ({ ...each, keys })));
  });

  test.each([false, true])(
    "are split in the same place among the ops on all ranks, non-blocking %p",
    async (nonblocking) => {
      const path = join(folder, `busy-${nonblocking}`);
      // Rank r adds r + 1 each time, and one of the world's ops waits for each of the groups.
      const all = {
        sums: Array(12).fill(3),
        parts: Array(12).fill(6),
        misuse: "0 faults",
        wait: "WAIT_WOULD_DEADLOCK",
      };
      expect(await valuesOf("busy-split", 2, { path, nonblocking })).toEqual([all, all]);
    },
  );

  test("fail with their parent when a rank does not take part in a split", async () => {
    const path = join(folder, "missed");
    const outcomes = await valuesOf("missed-split", 2, { path });
    const failed = { op: "OP_TIMEOUT", state: "FAILED", soon: true };
    // Rank 1 learns it from rank 0.
    expect(outcomes).toMatchObject([{ made: "CONNECT_TIMEOUT", ...failed, reason: true }, failed]);
  });
});
