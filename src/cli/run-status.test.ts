import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeGloo } from "../backends/gloo/fixtures/availability.ts";
import { readJobs } from "../status/index.ts";
import { atMost } from "./fixtures/at-most.ts";
import { CliProcess, fixture, runCli } from "./fixtures/cli-process.ts";
import { expectDumps, findingsOf } from "./fixtures/dumps.ts";
import { TopTerminal } from "./fixtures/top-terminal.ts";

// Waiting for its turn is part of a test's time.
setDefaultTimeout(180_000);
const inTurn = atMost(4);

const time = String.raw`[\d.]+ m?s`;
const site = String.raw`\S*hang\.ts:\d+:\d+`;
const waits = `in allReduce #2 on group "0" \\(gloo\\) for ${time}`;
const last = `in no op; the last, broadcast #1 on group "0" \\(gloo\\), ended ${time} ago(, called at ${site})?`;
const hanging = new RegExp(
  [
    "c10d run: what the ranks were doing:",
    `  rank 0 \\(pid \\d+\\): ${waits}, called at ${site}`,
    `  rank 1 \\(pid \\d+\\): ${last}`,
    `  rank 2 \\(pid \\d+\\): ${waits}, called at ${site}`,
  ].join("\\n"),
);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "c10d-run-status-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const args = (id: string, ...more: readonly string[]) => [
  ...["run", "-n", "3", "--rdzv-id", id, "--grace", "100ms", ...more],
  fixture("hang.ts"),
];

/** What the dumps of `making.ts` show. */
const unmade = {
  init: { call: "initProcessGroup", group: "0", text: "rank 1 left no dump and may not have called initProcessGroup" },
  newGroup: { call: "newGroup", group: "1", text: "rank 1 has not called newGroup" },
  splitGroup: { call: "splitGroup", group: "0:split:1", text: "rank 1 has not called splitGroup" },
};
type Making = keyof typeof unmade;

const foldersOf = (id: string) => readJobs().filter(({ launched }) => launched?.runId === id);

describeGloo("c10d run says what the ranks were doing", () => {
  test.concurrent(
    "when the job times out, also in the log folder and as an event, and where their dumps are",
    inTurn(async () => {
      const id = `timeout-${process.pid}`;
      const { exitCode, stdout, stderr } = await runCli(args(id, "--timeout", "12s", "--log-dir", folder, "--json"));
      expect(exitCode).toBe(124);
      expect(stderr).toMatch(hanging);
      expect(stderr).toMatch(/^ {2}rank 2 .*\nrank 1 has not called allReduce #2 on group "0" \(gloo\)$/m);
      const log = readFileSync(join(folder, id, "attempt_0", "status.log"), "utf8");
      expect(log).toMatch(new RegExp(`^\\d{4}-\\S+Z what the ranks were doing:\\n  rank 0 \\(pid \\d+\\): ${waits}`));
      const events = stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as Record<string, unknown>);
      expect(events.find(({ event }) => event === "status")).toMatchObject({
        attempt: 0,
        ranks: [
          { rank: 0, inFlight: [{ op: "allReduce", seq: 2 }] },
          { rank: 1, last: { op: "broadcast" } },
          { rank: 2 },
        ],
      });
      expect(foldersOf(id)).toEqual([]);
      const traces = join(folder, id, "attempt_0", "traces");
      expect(stderr).toContain(`what the ranks called last: c10d trace ${traces}\n`);
      await expectDumps(traces, [0, 1, 2]);
    }),
  );

  test.concurrent(
    "and where their flight recorders are, if their group failed",
    inTurn(async () => {
      const id = `traces-${process.pid}`;
      const run = (...more: string[]) => ["run", "-n", "3", "--rdzv-id", id, ...more, fixture("late.ts")];
      const { exitCode, stderr } = await runCli(run("--log-dir", folder));
      expect(exitCode).toBe(1);
      const traces = join(folder, id, "attempt_0", "traces");
      expect(stderr).toContain("what the ranks were doing:");
      expect(stderr).toEndWith(`\nwhat the ranks called last: c10d trace ${traces}\n`);
      const compared = await runCli(["trace", traces]);
      expect(compared.exitCode).toBe(1);
      expect(compared.stdout).toContain("group 0 (default_pg): rank 1 has not called broadcast #2");
      const own = join(folder, "own");
      await runCli(run("--log-dir", folder, "--env", `C10D_TRACE_DIR=${own}`));
      expect(readdirSync(own)).toContain("trace_rank_0.json");
    }),
  );

  test.concurrent(
    "at SIGQUIT, after which it goes on, and at SIGINT",
    inTurn(async () => {
      const id = `signals-${process.pid}`;
      await using run = new CliProcess(args(id));
      await run.printed(/waiting/);
      run.signal("SIGQUIT");
      await run.printed(hanging);
      const before = run.stderr.length;
      await Bun.sleep(100);
      expect(foldersOf(id)).toHaveLength(1);
      run.signal("SIGINT");
      expect(await run.exitCode()).toBe(130);
      expect(run.stderr.slice(before)).toMatch(hanging);
      expect(foldersOf(id)).toEqual([]);
    }),
  );

  test.concurrent(
    "when a rank dies",
    inTurn(async () => {
      const { exitCode, stderr } = await runCli([...args(`death-${process.pid}`), "die"]);
      expect(exitCode).toBe(137);
      expect(stderr).toMatch(new RegExp(`  rank 1 \\(pid \\d+\\): ended by SIGKILL; ${last}`));
    }),
  );

  test.concurrent.each(["return", "throw"])(
    "when a rank leaves early: %s",
    inTurn(async (how) => {
      const { exitCode, stderr } = await runCli(["run", "-n", "3", fixture("early.ts"), how]);
      expect(exitCode).toBe(1);
      const code = how === "throw" ? 1 : 0;
      const op = `the last op, broadcast #1 on group "0" \\(gloo\\), ended ${time} ago(, called at \\S+)?`;
      expect(stderr).toMatch(
        new RegExp(`  rank 1 \\(pid \\d+\\): exited with code ${code}; closed its groups ${time} ago; ${op}`),
      );
      const early = String.raw`\S*early\.ts:\d+:\d+`;
      const failed = `the last op, allReduce #2 on group "0" \\(gloo\\), failed ${time} ago, called at ${early}`;
      const others =
        how === "throw"
          ? `(in allReduce #2 .*, called at ${early}|closed its groups ${time} ago; ${failed})`
          : `closed its groups ${time} ago; ${failed}`;
      expect(stderr).toMatch(new RegExp(`  rank [02] \\(pid \\d+\\): (exited with code 1; )?${others}`));
      if (how === "throw") return;
      const lost = `rank 1 closed its connection: .*; it waits for rank 1 \\(pid \\d+\\), which has not called it`;
      expect(stderr).toMatch(
        new RegExp(`${lost}: closed its groups ${time} ago; ${op}; its process exited with code 0, ${time} ago`),
      );
      expect(stderr).not.toContain("has not called initProcessGroup");
    }),
  );

  /** The dumps show that rank 1 has not made the group of `making.ts` that the others are making. */
  const expectUnmade = async (id: string, how: Making, end: string): Promise<void> => {
    const job = await findingsOf(join(folder, id, "attempt_0", "traces"));
    expect([job.exitCode, job.absent, job.found.length]).toEqual([1, how === "init" ? [1] : [], 1]);
    const [found] = job.found;
    expect([found.group, found.ranks]).toEqual([unmade[how].group, [1]]);
    for (const part of [unmade[how].text, end, "making.ts:"]) expect(found.text).toContain(part);
  };

  test.concurrent.each([
    ["init", "initProcessGroup", "has not called initProcessGroup"],
    ["newGroup", "newGroup", "in no op, and none had started"],
    ["splitGroup", "splitGroup", "in no op, and none had started"],
  ] as const)(
    "when a rank does not make a group that others make: %s",
    inTurn(async (how, maker, absent) => {
      const line = String.raw`\S*making\.ts:\d+:\d+`;
      const id = `making-${how}-${process.pid}`;
      const command = ["run", "-n", "3", "--rdzv-id", id, "--grace", "100ms", "--log-dir", folder];
      await using run = new CliProcess([...command, fixture("making.ts"), how], {}, { limitMs: 55_000 });
      const limit = performance.now() + 40_000;
      let shown = "";
      const rows = new RegExp(` 0 +\\d+ +connecting +${maker} +${time} +${line}\n[^]* 2 +\\d+ +connecting +${maker} `);
      // Marked once the others have waited for it a while.
      const mark = /^! +1 +not started +has not called initProcessGroup$/m;
      const patterns = how === "init" ? [rows, mark] : [rows];
      const isShown = () => patterns.every((pattern) => pattern.test(shown));
      while (!isShown() && performance.now() < limit) {
        await Bun.sleep(500);
        shown = (await runCli(["top", id])).stdout;
      }
      for (const pattern of patterns) expect(shown).toMatch(pattern);
      run.signal("SIGINT");
      await run.exitCode();
      // On a loaded machine it may be about to sleep.
      const waiting = (rank: number) =>
        `  rank ${rank} \\(pid \\d+\\): in ${maker} for ${time}, called at ${line}(; its process is running)?\n`;
      expect(run.stderr).toMatch(
        new RegExp(`${waiting(0)}  rank 1 \\(pid \\d+\\): ${absent}(; its process is running)?\n${waiting(2)}`),
      );
      await expectUnmade(id, how, `ranks 0, 2 have waited in ${maker} for`);
    }),
  );

  test.concurrent.each([
    ["init", "rank 1, which has no status record here: it is elsewhere, or it has not called initProcessGroup"],
    ["newGroup", String.raw`rank 1 \(pid \d+\): in no op, and none had started`],
    ["splitGroup", String.raw`rank 1 \(pid \d+\): in no op, and none had started`],
  ] as const)(
    "and so does the error of the group: %s",
    inTurn(async (how, rank) => {
      const id = `unmade-${how}-${process.pid}`;
      const run = ["run", "-n", "3", "--rdzv-id", id, "--grace", "300ms", "--log-dir", folder];
      const { exitCode, stderr } = await runCli([...run, fixture("making.ts"), how, "3s"]);
      expect(exitCode).toBe(1);
      const line = String.raw`\S*making\.ts:\d+:\d+`;
      expect(stderr).toMatch(
        new RegExp(`DistTimeoutError: .*: rank 1 did not join the group.*; called at ${line}; it waits for ${rank}`),
      );
      // The user's frame comes first.
      expect(stderr).toMatch(new RegExp(`CONNECT_TIMEOUT"\n.*\n[^\n]* at ${line}\n`));
      await expectUnmade(id, how, `${unmade[how].call} failed after`);
    }),
  );

  test.concurrent(
    "unless records are turned off",
    inTurn(async () => {
      const off = { C10D_STATUS: "0" };
      const { stderr } = await runCli(args(`off-${process.pid}`, "--timeout", "4s"), off);
      expect(stderr).toContain("the job timed out");
      expect(stderr).not.toContain("what the ranks were doing");
    }),
  );
});

describeGloo("c10d top", () => {
  test.concurrent(
    "shows the ranks of a running job, once where there is no terminal",
    inTurn(async () => {
      const id = `top-${process.pid}`;
      await using run = new CliProcess(args(id));
      await run.printed(/waiting/);
      let shown = { exitCode: null as number | null, stdout: "" };
      const limit = performance.now() + 15_000;
      while (!shown.stdout.includes("(!)") && performance.now() < limit) {
        await Bun.sleep(250);
        shown = await runCli(["top", id]);
      }
      const { exitCode, stdout } = shown;
      expect(exitCode).toBe(0);
      const lines = stdout.trimEnd().split("\n");
      expect(lines.slice(0, 2)).toEqual([
        `c10d top: job ${id}: hang.ts, 3 ranks`,
        "1 of 3 ranks here has not called what others wait in (!)",
      ]);
      const [first, missing, third] = lines.slice(-3);
      expect(first).toMatch(new RegExp(`^ +0 +\\d+ +in op +allReduce #2 on group "0" +${time} +0 +0 B +${site}$`));
      expect(missing).toMatch(
        new RegExp(`^! +1 +\\d+ +idle +after broadcast #1 on group "0" +${time} ago +0 +0 B( +${site})?$`),
      );
      expect(third).toMatch(/^ +2 +\d+ +in op +allReduce #2 /);
      const json = JSON.parse((await runCli(["top", id.slice(0, -1), "--json"])).stdout) as { ranks: unknown[] };
      expect(json).toMatchObject({ id, worldSize: 3, attempt: 0 });
      expect(json.ranks).toHaveLength(3);
    }),
  );

  test.concurrent(
    "on a terminal of 80 columns has each rank's line, and leaves the last state when the job ends",
    inTurn(async () => {
      const id = `screen-${process.pid}`;
      await using run = new CliProcess(args(id));
      await run.printed(/waiting/);
      await using top = new TopTerminal(id, 24);
      const row = new RegExp(`^ +0  in op +allReduce #2 +${time} +0 +0 B  ${site}\n! +1 +`, "m");
      expect(await top.printedOnce(row)).toMatch(row);
      run.signal("SIGINT");
      expect(await run.exitCode()).toBe(130);
      expect(await top.exited).toBe(0);
      await top.printedOnce(/last state\s*$/);
      const [, left = ""] = top.screen.split("\x1b[?1049l");
      const lines = Bun.stripANSI(left).replaceAll("\r", "").trimEnd().split("\n");
      expect(lines[0]).toBe(`c10d top: job ${id}: hang.ts, 3 ranks`);
      // The last look may have been before or after the ranks ended.
      expect(lines.slice(-4, -1).map((line) => line.trim().replace(/^! +/, "").slice(0, 3))).toEqual([
        "0  ",
        "1  ",
        "2  ",
      ]);
      expect(lines.at(-1)).toBe(`job ${id} has ended; this was its last state`);
      expect(Math.max(...lines.map(({ length }) => length))).toBeLessThanOrEqual(80);
    }),
  );

  test("on a terminal of six rows leaves out a part of the head, not the ranks", async () => {
    const id = `rows-${process.pid}`;
    await using run = new CliProcess(args(id));
    await run.printed(/waiting/);
    await using top = new TopTerminal(id, 6);
    const job = `c10d top: job ${id}: hang.ts, 3 ranks`;
    const late = "1 of 3 ranks here has not called what others wait in \\(!\\)";
    const shown = new RegExp(`${job}\n${late}\n +0 .*\n! +1 .*\n +2 .*\nq quits`);
    expect(await top.printedOnce(shown)).toMatch(shown);
    top.terminal.write("q");
    expect(await top.exited).toBe(0);
    run.signal("SIGINT");
    await run.exitCode();
  });

  test.concurrent.each(["--jsn", "another", "--interval soon"])(
    "refuses %s after the job",
    inTurn(async (text) => {
      const more = text.split(" ");
      const { exitCode, stderr } = await runCli(["top", "job", ...more]);
      expect(exitCode).toBe(2);
      expect(stderr).toContain(more.at(-1) ?? "");
    }),
  );

  test.concurrent(
    "names the jobs that are running if there is none of that id",
    inTurn(async () => {
      const { exitCode, stderr } = await runCli(["top", "no-such-job"]);
      expect([exitCode, stderr]).toEqual([2, expect.stringContaining("c10d top: there is no job no-such-job")]);
    }),
  );
});
