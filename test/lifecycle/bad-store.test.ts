import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { runScript } from "./script-job.ts";

setDefaultTimeout(60_000);

/** How long each may take: the time-outs of the script plus a margin for a busy machine. */
const limitsMs: Readonly<Record<string, number>> = { init: 6_000, op: 3_000, newGroup: 5_000, destroy: 4_000 };

/** The output of a rank: the outcome of each call. Checks that all ended in time. */
function endsOf(stdout: string): Record<string, string> {
  const ends = stdout
    .trim()
    .split("\n")
    .map((line) => line.split(" "));
  for (const [name = "", , ms] of ends) expect(Number(ms)).toBeLessThan(limitsMs[name] ?? 0);
  return Object.fromEntries(ends.map(([name, outcome]) => [name, outcome]));
}

const badAnswer = "STORE_BAD_ANSWER";

describe.each([
  ["hang", "STORE_TIMEOUT"],
  ["throw", "STORE_FAILED"],
  ["garbage", badAnswer],
  ["null", badAnswer],
])("a store whose calls %s", (mode, code) => {
  test("at first: initProcessGroup ends with an error", async () => {
    const outcomes = await runScript(2, "bad-store.ts", [mode, "start"]);
    for (const { stdout, stderr, exitCode } of outcomes) {
      expect({ stderr, exitCode }).toEqual({ stderr: "", exitCode: 0 });
      expect(endsOf(stdout)).toEqual({ init: code });
    }
  });

  test("later: ops, newGroup and destroyProcessGroup end", async () => {
    const [survivor] = await runScript(2, "bad-store.ts", [mode, "later"]);
    expect({ stderr: survivor?.stderr, exitCode: survivor?.exitCode }).toEqual({ stderr: "", exitCode: 0 });
    const { op, newGroup, destroy } = endsOf(survivor?.stdout ?? "");
    expect(op).toBe("PEER_LOST");
    expect(newGroup).toBe(code);
    expect(destroy).toBe("ok");
  });
});
