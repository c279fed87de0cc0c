import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeGloo } from "../backends/gloo/fixtures/availability.ts";
import { CliProcess, fixture, runCli } from "./fixtures/cli-process.ts";
import { expectDumps, findingsOf } from "./fixtures/dumps.ts";

setDefaultTimeout(60_000);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "c10d-run-dumps-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

// The tests of c10d run's status have this at the time-out of a job, and with groups that are not made.
describeGloo("c10d run has ranks that hang write their flight recorders before it ends them", () => {
  test.each([
    ["also if they block in wait()", "wait", [0, 1, 2]],
    ["but for one in an endless loop, which does not notice", "loop", [0, 2]],
  ])("at SIGINT, %s", async (_, how, ranks) => {
    const traces = join(folder, how);
    const run = ["run", "-n", "3", "--grace", "100ms", "--env", `C10D_TRACE_DIR=${traces}`];
    await using job = new CliProcess([...run, fixture("hang.ts"), how]);
    await job.printed(/waiting/);
    job.signal("SIGINT");
    expect(await job.exitCode()).toBe(130);
    await expectDumps(traces, ranks);
  });
});

describeGloo("c10d trace names the rank that c10d run ended a job for", () => {
  // Long enough for all ranks to meet; a rank that has to give up by itself does so before.
  const run = async (name: string, args: readonly string[], ranks = 3) => {
    const places = ["--rdzv-id", name, "--log-dir", folder, "--grace", "300ms"];
    await runCli(["run", "-n", String(ranks), "--timeout", "8s", ...places, ...args]);
    return findingsOf(join(folder, name, "attempt_0", "traces"));
  };

  test("that does not make the second op of a round-robin group", async () => {
    const { exitCode, found } = await run("round-robin", [fixture("round-robin.ts")], 2);
    expect([exitCode, found.length]).toEqual([1, 1]);
    expect(found[0]).toMatchObject({ kind: "missing", ranks: [1], group: "round_robin:1,2" });
    expect(found[0].text).toContain("rank 1 has not called all_reduce #2; rank 0 has waited in it");
  });

  test("that was killed, though it left no dump, while the ops of the others are young", async () => {
    const { exitCode, found, absent } = await run("killed", [fixture("hang.ts"), "die"]);
    expect([exitCode, absent, found.length]).toEqual([1, [1], 1]);
    expect(found[0].ranks).toEqual([1]);
    expect(found[0].text).toContain("rank 1 left no dump and may not have called all_reduce #2");
  });

  test("and a group that does not close", async () => {
    const { exitCode, found } = await run("closing", [fixture("stuck.ts"), "close"], 2);
    expect(exitCode).toBe(1);
    expect(found).toMatchObject([{ kind: "stuck", group: "0", text: expect.stringContaining("been closing it for") }]);
  });
});
