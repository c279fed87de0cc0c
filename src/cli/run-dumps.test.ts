import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeGloo } from "../backends/gloo/fixtures/availability.ts";
import { CliProcess, fixture, runCli } from "./fixtures/cli-process.ts";

setDefaultTimeout(60_000);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "c10d-run-dumps-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Checks the dumps of a job in which ranks 0 and 2 wait for rank 1, if that could write one. */
async function expectDumps(traces: string, ranks: readonly number[]): Promise<void> {
  expect(readdirSync(traces).sort()).toEqual(ranks.map((rank) => `trace_rank_${rank}.json`));
  const { entries } = JSON.parse(readFileSync(join(traces, "trace_rank_0.json"), "utf8"));
  expect(entries.at(-1)).toMatchObject({ api: "allReduce", collective_seq_id: 2, state: "started" });
  const { stdout } = await runCli(["trace", traces]);
  const who = ranks.includes(1) ? /rank 1 has not called/ : /No dump of rank 1\./;
  expect(stdout.replaceAll(/\s+/g, " ")).toMatch(who);
}

describeGloo("c10d run has ranks that hang write their flight recorders before it ends them", () => {
  test("at the time-out of the job, and says where they are", async () => {
    const run = ["run", "-n", "3", "--rdzv-id", "late", "--timeout", "15s", "--log-dir", folder];
    const { exitCode, stderr } = await runCli([...run, fixture("hang.ts"), "await"]);
    expect(exitCode).toBe(124);
    const traces = join(folder, "late", "attempt_0", "traces");
    expect(stderr).toContain(`what the ranks called last: c10d trace ${traces}\n`);
    await expectDumps(traces, [0, 1, 2]);
  });

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
