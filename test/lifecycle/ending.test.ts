import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { runScript, startScript } from "./script-job.ts";

setDefaultTimeout(60_000);

/** A fraction of a second plus a margin for a busy machine; the peers stay for 20 s. */
const SOON_MS = 5_000;

/** Runs `end.ts` on two ranks, of which rank 1 stays, and returns the outcome of rank 0. */
async function endOf(way: string, { stopped = false } = {}) {
  const [first, second] = await startScript(2, "end.ts", [way]);
  if (first === undefined || second === undefined) throw new Error("expected two ranks");
  await second.printed("holding out");
  if (stopped) second.kill("SIGSTOP");
  const outcome = await first.outcome;
  second.kill("SIGKILL");
  await second.outcome;
  const threwAt = Number(/throwing (\d+)/.exec(outcome.stdout)?.[1]);
  return { ...outcome, afterMs: outcome.endedAt - threwAt };
}

describe("a process ends", () => {
  test("by itself when its group is idle and was not destroyed", async () => {
    const outcomes = await runScript(2, "end.ts", ["idle"]);
    for (const { exitCode, signal, stdout, stderr, endedAt } of outcomes) {
      expect({ exitCode, signal, stderr }).toEqual({ exitCode: 0, signal: null, stderr: "" });
      expect(endedAt - Number(/done (\d+)/.exec(stdout)?.[1])).toBeLessThan(SOON_MS);
    }
  });

  for (const way of ["throw-idle", "throw-busy"]) {
    for (const stopped of [false, true]) {
      test(`promptly by a throw in an \`await using\` block: ${way}, ${stopped ? "peer stopped" : "peer alive"}`, async () => {
        const { exitCode, signal, stderr, afterMs } = await endOf(way, { stopped });
        expect({ exitCode, signal }).toEqual({ exitCode: 1, signal: null });
        expect(stderr).toContain("error: thrown in the block");
        expect(afterMs).toBeLessThan(SOON_MS);
      });
    }
  }

  test("promptly by an exception elsewhere, with ops in flight", async () => {
    const { exitCode, signal, stderr, afterMs } = await endOf("unhandled");
    expect({ exitCode, signal }).toEqual({ exitCode: 1, signal: null });
    expect(stderr).toContain("error: thrown elsewhere");
    expect(afterMs).toBeLessThan(SOON_MS);
  });

  for (const way of ["exit", "exit-at-once"]) {
    test(`promptly by process.exit(), with ops in flight: ${way}`, async () => {
      const { exitCode, signal, stderr, afterMs } = await endOf(way);
      expect({ exitCode, signal, stderr }).toEqual({ exitCode: 3, signal: null, stderr: "" });
      expect(afterMs).toBeLessThan(SOON_MS);
    });
  }

  test("only when its last op, which is not awaited, has completed", async () => {
    const outcomes = await runScript(2, "last-op.ts");
    for (const { exitCode, stdout, stderr } of outcomes) {
      expect({ exitCode, stdout, stderr }).toEqual({ exitCode: 0, stdout: "sum 3 code 0\n", stderr: "" });
    }
  });
});

describe("an unobserved failure", () => {
  test("is a process warning", async () => {
    const [first] = await runScript(2, "unobserved.ts");
    expect({ exitCode: first?.exitCode, signal: first?.signal }).toEqual({ exitCode: 0, signal: null });
    expect(first?.stderr).toContain("DistWarning");
    expect(first?.stderr).toMatch(/unobserved failure: allReduce #2 on group "0".*timed out after 200 ms.*rank 1/);
    expect(first?.stderr).not.toContain("nhandled");
  });

  test("is rethrown by destroyProcessGroup()", async () => {
    const [first] = await runScript(2, "unobserved.ts", ["destroy"]);
    expect(first?.exitCode).toBe(0);
    expect(first?.stdout).toMatch(/^rethrown DistTimeoutError allReduce #2 on group "0".*\ninitialized false\n$/);
  });
});
