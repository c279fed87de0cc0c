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

describeGloo("c10d trace names the rank that c10d run ended a job for", () => {
  // Long enough for all ranks to meet; a rank that has to give up by itself does so before.
  const run = async (name: string, args: readonly string[], ranks = 3) => {
    const places = ["--rdzv-id", name, "--log-dir", folder, "--grace", "300ms"];
    await runCli(["run", "-n", String(ranks), "--timeout", "8s", ...places, ...args]);
    const { exitCode, stdout } = await runCli(["trace", "--json", join(folder, name, "attempt_0", "traces")]);
    const { findings, absent, inFlight } = JSON.parse(stdout);
    const found = findings.map(({ kind, group, ranks: named, text }: Record<string, unknown>) => ({
      ...{ kind, group, ranks: named, text },
    }));
    return { exitCode, found, absent, inFlight };
  };

  test.each([
    ["init", "initProcessGroup", "0", [1], "rank 1 left no dump and may not have called initProcessGroup"],
    ["newGroup", "newGroup", "1", [], "rank 1 has not called newGroup"],
    ["splitGroup", "splitGroup", "0:split:1", [], "rank 1 has not called splitGroup"],
  ] as const)("that does not make a group: %s", async (how, call, group, absent, text) => {
    for (const timeout of ["60s", "2s"]) {
      const job = await run(`making-${how}-${timeout}`, [fixture("making.ts"), how, timeout]);
      expect([job.exitCode, job.absent, job.found.length]).toEqual([1, [...absent], 1]);
      const [found] = job.found;
      expect([found.group, found.ranks]).toEqual([group, [1]]);
      const end = timeout === "2s" ? `${call} failed after` : `ranks 0, 2 have waited in ${call} for`;
      for (const part of [text, end, "making.ts:"]) expect(found.text).toContain(part);
    }
  });

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
