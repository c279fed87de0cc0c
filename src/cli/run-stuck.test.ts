import { expect, setDefaultTimeout, test } from "bun:test";
import { describeGloo } from "../backends/gloo/fixtures/availability.ts";
import { CliProcess, fixture, freePort, runCli } from "./fixtures/cli-process.ts";

setDefaultTimeout(60_000);

const time = String.raw`[\d.]+ m?s`;
const line = String.raw`\S*stuck\.ts:\d+:\d+`;

function start(id: string, ranks: number, ...args: readonly string[]): CliProcess {
  const flags = ["run", "-n", String(ranks), "--rdzv-id", id, "--grace", "100ms"];
  return new CliProcess([...flags, fixture("stuck.ts"), ...args], {}, { limitMs: 50_000 });
}

/** What `c10d top` shows of a job, once that fits. */
async function topOf(id: string, rows: RegExp): Promise<string> {
  let shown = "";
  for (const end = performance.now() + 20_000; performance.now() < end && !rows.test(shown); ) {
    await Bun.sleep(500);
    shown = (await runCli(["top", id])).stdout;
  }
  return shown;
}

describeGloo("a rendezvous that hangs", () => {
  test.each([
    ["the host of the store", 1],
    ["the others", 0],
  ])("is shown with who waits in it, who has not come and since when: by %s", async (_, away) => {
    const id = `rendezvous-${away}-${process.pid}`;
    await using run = start(id, 3, "away", `127.0.0.1:${freePort()}`, String(away));
    const waits = (rank: number) => ` ${rank} +\\d+ +connecting +initProcessGroup +${time} +${line}`;
    const rows = new RegExp(`^! +${away} +not started +has not called initProcessGroup$`, "m");
    const shown = await topOf(id, rows);
    expect(shown).toMatch(rows);
    for (const rank of [0, 1, 2].filter((each) => each !== away)) expect(shown).toMatch(new RegExp(waits(rank)));
    expect(shown).toContain("1 of 3 ranks here has not called what others wait in (!)");
    run.signal("SIGQUIT");
    const report = [0, 1, 2].map((rank) => {
      const what =
        rank === away ? "has not called initProcessGroup" : `in initProcessGroup for ${time}, called at ${line}`;
      return `  rank ${rank} \\(pid \\d+\\): ${what}(; its process is running)?\n`;
    });
    await run.printed(new RegExp(`what the ranks were doing:\n${report.join("")}`));
    run.signal("SIGINT");
    expect(await run.exitCode()).toBe(130);
  });

  test.each([
    [1, "missing: rank 1; called at"],
    [0, "no connection to the store server at "],
  ])("ends with an error that says who is missing, and where it was called: rank %d", async (away, text) => {
    await using run = start(`late-${away}-${process.pid}`, 3, "away", `127.0.0.1:${freePort()}`, String(away), "2s");
    expect(await run.exitCode()).toBe(1);
    expect(run.stderr).toContain(text);
    const rest = "which has no status record here: it is elsewhere, or it has not called initProcessGroup";
    expect(run.stderr).toMatch(new RegExp(`; called at ${line}; it waits for rank ${away}, ${rest}`));
    // The user's frame comes first.
    expect(run.stderr).toMatch(new RegExp(`CONNECT_TIMEOUT"[^]*?\n[^\n]* at [^\n]*${line}`));
    expect(run.stderr).toMatch(
      / {2}rank 2 \(pid \d+\): (exited with code 1; )?(in initProcessGroup|its initProcessGroup failed)[ ,]/,
    );
  });
});

describeGloo("a rank that has ended before initProcessGroup", () => {
  test("is said to have ended in the errors of the others", async () => {
    const { stdout } = await runCli(["run", "-n", "3", fixture("absent.ts")]);
    const end = `rank 1 \\(pid \\d+\\): it had not called initProcessGroup; its process exited with code 0, ${time} ago`;
    for (const rank of [0, 2]) expect(stdout).toMatch(new RegExp(`^\\[rank ${rank}\\] .*; it waits for ${end}$`, "m"));
  });
});

describeGloo("the report of a job whose group has failed", () => {
  test.each([
    [
      "names the op that failed, not one that was refused later",
      [],
      `in no op; the last, allReduce #2 on group "0" \\(gloo\\), failed ${time} ago`,
    ],
    [
      "says in what a rank was when it exited, and the op that had failed",
      ["exit"],
      `exited with code 0; when it exited, in allReduce #3 on group "0" \\(gloo\\) for 1(\\.\\d)? s, .*; before, allReduce #2 on group "0" \\(gloo\\) failed$`,
    ],
  ])("%s", async (_, args, expected) => {
    const { stderr } = await runCli([
      "run",
      "-n",
      "2",
      "--timeout",
      "6s",
      "--grace",
      "100ms",
      fixture("refused.ts"),
      ...args,
    ]);
    expect(stderr).toMatch(new RegExp(`^  rank 0 \\(pid \\d+\\): ${expected}`, "m"));
  });
});

test("a job of which no rank has called initProcessGroup says so when it times out", async () => {
  const { exitCode, stderr } = await runCli(["run", "-n", "2", "--timeout", "1s", fixture("wait.ts")]);
  expect(exitCode).toBe(124);
  expect(stderr).toContain("c10d run: no rank has called initProcessGroup\n");
});

test("a group that does not close is shown as closing", async () => {
  const id = `closing-${process.pid}`;
  await using run = start(id, 2, "close");
  const rows = new RegExp(` 0 +\\d+ +closing +close on group "0" +${time}\\b`);
  expect(await topOf(id, rows)).toMatch(rows);
  run.signal("SIGINT");
  await run.exitCode();
  const last = `the last op, barrier( #\\d+)? on group "0" \\(stuck\\), ended ${time} ago`;
  expect(run.stderr).toMatch(new RegExp(`  rank 0 \\(pid \\d+\\): closing group "0" for ${time}; ${last}`));
});
