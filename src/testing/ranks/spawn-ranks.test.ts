import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { InvalidArgumentError } from "../../errors/index.ts";
import { processState } from "../../status/index.ts";
import type { Awkward } from "../fixtures/awkward.ts";
import type { Hanging } from "../fixtures/hanging.ts";
import type { SumsArgs, SumsResult } from "../fixtures/sums.ts";
import { type RankOutcome, type SpawnOptions, spawnRanks, startRanks } from "./spawn-ranks.ts";

setDefaultTimeout(60_000);

const fixture = (name: string): URL => new URL(`../fixtures/${name}.ts`, import.meta.url);
const well: SumsArgs = { backend: "gloo", ops: 4, timeoutMs: 8_000 };

function sums(n: number, faults: readonly string[], args: Partial<SumsArgs> = {}) {
  return spawnRanks(n, fixture("sums"), { args: { ...well, ...args }, faults, timeout: 40_000 });
}

const resultOf = (outcome: RankOutcome | undefined): SumsResult => {
  if (outcome?.value === undefined) throw new Error(`no result: ${outcome?.error?.message} ${outcome?.stderr}`);
  return outcome.value as SumsResult;
};

describe("the fault script of spawnRanks", () => {
  test.concurrent.each(["before", "during", "after"])("kills %s an op", async (when) => {
    const [dead, other] = await sums(2, [`kill rank 0 ${when} op 3`]);
    expect(dead).toMatchObject({ exitCode: null, signal: "SIGKILL", hung: false, hang: undefined, value: undefined });
    expect(dead?.faults).toEqual([{ fault: `kill rank 0 ${when} op 3`, fired: true }]);
    const { sums: done, code } = resultOf(other);
    // A rank that dies during an op may have done its part.
    expect(when === "during" ? [2, 3] : [when === "before" ? 2 : 3]).toContain(done.length);
    expect(done).toEqual([1, 21, 41].slice(0, done.length));
    expect(code).toBe("PEER_LOST");
    expect(other?.faults).toEqual([]);
  });

  test.concurrent("stops a rank, which is reported with its last op when the time is up", async () => {
    const controller = new AbortController();
    const args = { ...well, timeoutMs: 4_000 };
    const { signal } = controller;
    const job = await startRanks(2, fixture("sums"), { args, signal, faults: ["stop rank 1 after op 2"] });
    await job.ranks[0]?.reported(() => false).catch(() => {}); // until it has ended
    controller.abort();
    const [other, stopped] = await job.done;
    expect(resultOf(other)).toMatchObject({ code: "OP_TIMEOUT", state: "FAILED" });
    // The last message of a rank may not have left it when it stops.
    expect([[1], [1, 21]]).toContainEqual([...resultOf(other).sums]);
    expect(stopped).toMatchObject({ signal: "SIGKILL", hung: true, faults: [{ fired: true }] });
    expect(stopped?.hang?.process).toBe("stopped");
    expect(stopped?.hang?.text).toMatch(
      /^rank 1 was killed after \d[\d.]* s: in no op; the last, allReduce #2 on group "0" \(gloo\), ended [\d.]+ s earlier; its process was stopped$/,
    );
  });

  test.concurrent("a stopped rank continues after SIGCONT", async () => {
    const job = await startRanks(2, fixture("sums"), { args: well, faults: ["stop rank 1 before op 2"] });
    // The first op needs both ranks, so by then rank 1 is about to call the second.
    const { promise, resolve } = Promise.withResolvers<void>();
    const poll = setInterval(() => {
      job.ranks[1]?.kill("SIGCONT");
      resolve();
    }, 500);
    await promise;
    const outcomes = await job.done;
    clearInterval(poll);
    for (const outcome of outcomes) expect(resultOf(outcome).sums).toEqual([1, 21, 41, 61]);
    expect(outcomes[1]?.faults).toEqual([{ fault: "stop rank 1 before op 2", fired: true }]);
  });

  test.concurrent.each([true, false])("delays a rank, which makes the others wait; blocking %p", async (blocking) => {
    const outcomes = await sums(2, ["delay rank 0 before op 4 by 250ms"], { blocking });
    for (const outcome of outcomes) {
      const { sums: done, lastMs } = resultOf(outcome);
      expect(done).toEqual([1, 21, 41, 61]);
      expect(lastMs).toBeGreaterThan(200);
    }
    expect(outcomes[0]?.faults).toEqual([{ fault: "delay rank 0 before op 4 by 250ms", fired: true }]);
  });

  test.concurrent.each([true, false])("drops the part of a rank in an op; blocking %p", async (blocking) => {
    const [lost, other] = await sums(2, ["drop rank 0 op 3"], { timeoutMs: 1_500, blocking });
    expect(resultOf(lost)).toMatchObject({ sums: [1, 21], code: "OP_TIMEOUT", state: "FAILED" });
    expect(resultOf(lost).message).toContain(
      'allReduce on group "0" (gloo, rank 0 of 2), op 3 of this rank: timed out after 1500 ms; it was dropped by the fault script',
    );
    expect(resultOf(lost).lastMs).toBeGreaterThanOrEqual(1_495);
    expect(resultOf(other)).toMatchObject({ sums: [1, 21], state: "FAILED" });
    expect(lost?.faults).toEqual([{ fault: "drop rank 0 op 3", fired: true }]);
  });

  test.concurrent("a lost message holds up nothing until its time-out", async () => {
    const [sender, receiver] = await spawnRanks(2, fixture("lost"), { faults: ["drop rank 0 op 1"] });
    // The op that times out first fails the group of both ranks.
    const codes = [/^(OP_TIMEOUT|ABORTED)$/, /^(OP_TIMEOUT|PEER_LOST)$/];
    for (const [i, rank] of [sender, receiver].entries()) {
      expect(rank?.value).toEqual([expect.stringMatching(codes[i] ?? ""), 3, 21, 201, "FAILED"]);
    }
  });

  test.concurrent("later collectives of the group wait behind a lost one, those of other groups do not", async () => {
    const [loser, other] = await spawnRanks(2, fixture("lost"), { faults: ["drop rank 0 op 2"] });
    // The op that times out first fails the group of both ranks.
    const codes = [/^(OP_TIMEOUT|ABORTED)$/, /^(OP_TIMEOUT|PEER_LOST)$/];
    for (const [i, rank] of [loser, other].entries()) {
      const failed = expect.stringMatching(codes[i] ?? "");
      expect(rank?.value).toEqual([7, failed, failed, 201, "FAILED"]);
    }
  });

  test.concurrent("reports which faults no rank reached", async () => {
    const [first, second] = await sums(2, ["kill rank 0 before op 5", "drop rank 1 op 99"]);
    expect(first).toMatchObject({ exitCode: 0, faults: [{ fault: "kill rank 0 before op 5", fired: false }] });
    expect(second).toMatchObject({ exitCode: 0, faults: [{ fault: "drop rank 1 op 99", fired: false }] });
  });

  test.concurrent("is checked before any process starts", async () => {
    const error = await spawnRanks(2, fixture("sums"), { faults: ["kill rank 2 before op 1"] }).catch(
      (e: unknown) => e,
    );
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect(String(error)).toContain("there is no rank 2 among 2");
  });
});

async function untilAsleep(pid: number): Promise<void> {
  const limit = performance.now() + 20_000;
  while (processState(pid) === "running" && performance.now() < limit) await Bun.sleep(20);
}

describe("a rank that hangs", () => {
  const site = String.raw`, called at \S*hanging\.ts:\d+:\d+`;
  const inOp = (op: string) => String.raw`in ${op} on group "0" \(gloo\) for [\d.]+ s${site}`;
  const cases: readonly (readonly [Hanging, RegExp])[] = [
    ["wait", new RegExp(`: ${inOp("allReduce #2")}$`)],
    ["await", new RegExp(`: ${inOp("allReduce #2")}$`)],
    ["two ops", new RegExp(`: ${inOp("allReduce #2")}, ${inOp("barrier #3")}$`)],
    ["message", new RegExp(`: ${inOp("recv #\\d+")}$`)],
    [
      "busy",
      /: in no op; the last, barrier #1 on group "0" \(gloo\), ended [\d.]+ s earlier; its process was running$/,
    ],
    ["before any op", /: in no op, and none had started$/],
  ];

  test.concurrent.each(cases)("%s: is killed, and reported with the op that it was in", async (args, words) => {
    const controller = new AbortController();
    const job = await startRanks(2, fixture("hanging"), { args, signal: controller.signal, timeout: 50_000 });
    await Promise.all(job.ranks.map((rank) => rank.reported((report) => report === "ready")));
    if (args === "before any op") await job.ranks[1]?.reported(() => false).catch(() => {});
    await Bun.sleep(300);
    // On a busy machine it may not have got there yet.
    if (args !== "busy") await untilAsleep(job.ranks[0]?.pid ?? 0);
    controller.abort();
    const [hanging, other] = await job.done;
    expect(hanging).toMatchObject({ signal: "SIGKILL", exitCode: null, hung: true });
    expect(hanging?.hang?.text).toMatch(/^rank 0 was killed after [\d.]+ s: /);
    expect(hanging?.hang?.text).toMatch(words);
    if (args === "before any op") {
      expect(other).toMatchObject({ rank: 1, exitCode: 0, hung: false, hang: undefined });
      return;
    }
    expect(other).toMatchObject({ rank: 1, hung: true, hang: { ops: [{ op: "recv", backend: "gloo", group: "0" }] } });
    expect(other?.hang?.ops[0]?.forMs).toBeWithin(100, 50_000);
  });
});

describe("spawnRanks", () => {
  const folder = (): string => mkdtempSync(join(tmpdir(), "c10d-spawn-test-"));

  test("runs ranks by another command", async () => {
    const there = folder();
    const wrapper = join(there, "wrapper.sh");
    writeFileSync(wrapper, '#!/bin/sh\necho "wrapped $RANK"\nWRAPPED=yes exec "$@"\n', { mode: 0o755 });
    const [first, second] = await spawnRanks(2, fixture("environment"), {
      runtime: [wrapper, process.execPath],
      env: { EXTRA: "7", HOME: undefined },
      args: ["WRAPPED", "EXTRA", "HOME", "RANK", "WORLD_SIZE"],
    });
    expect(first?.value).toEqual(["yes", "7", undefined, "0", "2"]);
    expect(second).toMatchObject({ stdout: "wrapped 1\n", value: ["yes", "7", undefined, "1", "2"] });
    rmSync(there, { recursive: true });
  });

  test("runs a program that is not TypeScript", async () => {
    const there = folder();
    const program = join(there, "program.sh");
    writeFileSync(program, 'echo "$RANK/$WORLD_SIZE $1 $2"; [ "$RANK" = 0 ] || exit 7\n');
    const outcomes = await spawnRanks(2, program, { runtime: ["sh"], args: ["a b", "c"] });
    expect(outcomes.map(({ stdout, exitCode, error }) => [stdout, exitCode, error])).toEqual([
      ["0/2 a b c\n", 0, undefined],
      ["1/2 a b c\n", 7, undefined],
    ]);
    const refusals: readonly (readonly [SpawnOptions, string])[] = [
      [{}, "name what runs it"],
      [{ runtime: [] }, "runtime is empty"],
      [{ runtime: ["sh"], args: { a: 1 } }, "list of strings"],
      [{ runtime: ["sh"], faults: ["drop rank 0 op 1"] }, "the ops of a program are not seen"],
    ];
    for (const [options, reason] of refusals) expect(spawnRanks(1, program, options)).rejects.toThrow(reason);
    rmSync(there, { recursive: true });
  });

  test("reports how every rank ended", async () => {
    const outcomes = await spawnRanks(4, fixture("endings"), { timeout: 15_000 });
    const [returned, threw, exited, killed] = outcomes;
    expect(returned).toMatchObject({ exitCode: 0, signal: null, value: { rank: 0 }, reports: ["a", ["b"]] });
    expect(threw).toMatchObject({ exitCode: 1, signal: null, value: undefined });
    expect(threw?.error).toMatchObject({ name: "InvalidArgumentError", code: "INVALID_ARGUMENT", message: "no good" });
    expect(threw?.error?.details).toEqual({ argument: "x" });
    expect(exited).toMatchObject({ exitCode: 9, signal: null, stderr: "farewell\n" });
    expect(killed).toMatchObject({ exitCode: null, signal: "SIGTERM", hung: false });
  });

  test("kills and reports ranks when the time is up", async () => {
    const [first, second] = await spawnRanks(2, fixture("half"), { timeout: 1_000, env: { C10D_BACKEND: "gloo" } });
    for (const outcome of [first, second]) {
      expect(outcome).toMatchObject({ hung: true, signal: "SIGKILL", exitCode: null, value: undefined });
      expect(outcome?.hang?.text).toMatch(/^rank \d was killed after (1|[1-9]\.\d|\d\d\.\d) s: in /);
      expect(outcome?.durationMs).toBeGreaterThanOrEqual(1_000);
    }
  });

  const awkward = async (args: Awkward): Promise<RankOutcome | undefined> =>
    (await spawnRanks(1, fixture("awkward"), { args }))[0];

  test("receives large values and reports in full", async () => {
    const outcome = await awkward("large");
    expect([String(outcome?.value).length, String(outcome?.reports).length]).toEqual([5_000_000, 5_000_000]);
    expect(outcome).toMatchObject({ exitCode: 0, error: undefined });
  });

  test("large arguments, values and reports, by a launcher, and a session directory of its own", async () => {
    const there = folder();
    const launcher = join(there, "launcher.sh");
    // Like mpirun: -n, number of ranks, program.
    writeFileSync(
      launcher,
      `size=$2; shift 2
      for rank in $(seq 0 $((size - 1))); do OMPI_COMM_WORLD_RANK=$rank OMPI_COMM_WORLD_SIZE=$size "$@" & done
      wait`,
    );
    const names = Array.from({ length: 200_000 }, (_, i) => `NO_VARIABLE_${i}`);
    const options = { launcher: ["sh", launcher] };
    const many = await spawnRanks(2, fixture("environment"), { ...options, args: names });
    expect(many.map(({ value }) => (value as unknown[]).length)).toEqual([200_000, 200_000]);
    const large = await spawnRanks(2, fixture("awkward"), { ...options, args: "large" });
    for (const { exitCode, value, reports, error } of large) {
      expect([exitCode, String(value).length, String(reports).length, error]).toEqual([
        0,
        5_000_000,
        5_000_000,
        undefined,
      ]);
    }
    const variable = ["OMPI_MCA_orte_tmpdir_base"];
    const jobs = [0, 1].map(() => spawnRanks(2, fixture("environment"), { ...options, args: variable }));
    const sessions = (await Promise.all(jobs)).flatMap((ranks) => ranks.map(({ value }) => String(value)));
    expect([sessions[0], sessions[2]]).toEqual([sessions[1], sessions[3]]);
    expect(sessions[0]).not.toBe(sessions[2]);
    for (const session of sessions) expect(session).toContain("c10d-ranks-");
    rmSync(there, { recursive: true });
  });

  test.each<[Awkward, string]>([
    ["a function", "rank 0: what its function returned cannot be copied"],
    ["reports a function", "rank 0: what it reports cannot be copied"],
    ["odd error", "too warm"],
    ["odder error", "[object Object] was thrown and cannot be read"],
  ])("%s: reports that it cannot be sent", async (args, message) => {
    const outcome = await awkward(args);
    expect(outcome).toMatchObject({ exitCode: 1, value: undefined, reports: [], stderr: "" });
    expect(outcome?.error?.message).toStartWith(message);
    expect(outcome?.error?.details?.rank).toBe(message.startsWith("rank") ? 0 : undefined);
  });

  test("does not wait for processes that a rank leaves behind", async () => {
    const started = performance.now();
    expect(await awkward("child")).toMatchObject({ value: 0, exitCode: 0, hung: false, stdout: "left a child\n" });
    expect(performance.now() - started).toBeLessThan(14_000);
  });

  test("reports a file that cannot be run; a path is relative to the current folder", async () => {
    const path = relative(process.cwd(), fileURLToPath(fixture("awkward")));
    const [first] = await spawnRanks(1, path, { args: "large" });
    expect(first?.exitCode).toBe(0);
    const [second] = await spawnRanks(1, fixture("no-body"));
    expect(second?.error?.message).toMatch(/no-body\.ts has no function as its default export/);
    const there = folder();
    const broken = join(there, "broken.ts");
    writeFileSync(broken, "export default () => {};\nconst a = => 1;\nconst b: = 2;\n");
    const [third] = await spawnRanks(1, broken);
    expect(third?.error?.message).toContain(`Unexpected => (${broken}:2:11)`);
    rmSync(there, { recursive: true });
  });

  test("refuses an argument that does not name a file", async () => {
    await expect(spawnRanks(2, undefined as never)).rejects.toThrow(
      "spawnRanks: file must be the path or URL of a file",
    );
  });

  test.each<[string, SpawnOptions, string]>([
    ["args", { args: () => 1 }, "args cannot be copied to the ranks"],
    ["runtime", { runtime: ["/no/such/command"] }, "cannot run /no/such/command: ENOENT"],
    ["launcher", { launcher: ["/no/such/launcher"] }, "cannot run /no/such/launcher: ENOENT"],
  ])("what cannot be started is refused, and leaves nothing behind: %s", async (argument, options, reason) => {
    // In a rank of its own: other tests make folders too, and a store that stays open would keep it from exiting.
    const there = folder();
    const code = `
      const error = await (await import("./spawn-ranks.ts")).spawnRanks(2, "x.ts", ${argument === "args" ? "{ args: () => 1 }" : JSON.stringify(options)}).catch((e) => e);
      console.log(JSON.stringify([error.name, error.details?.argument, error.message]));`;
    const child = Bun.spawn([process.execPath, "-e", code], {
      cwd: import.meta.dir,
      env: { ...process.env, TMPDIR: there },
      stdout: "pipe",
      timeout: 20_000,
    });
    const [name, which, message] = JSON.parse(await child.stdout.text()) as string[];
    expect([name, which]).toEqual(["InvalidArgumentError", argument]);
    expect(message).toContain(reason);
    expect([await child.exited, readdirSync(there)]).toEqual([0, []]);
    rmSync(there, { recursive: true });
  });

  test("ranks whose parent was killed exit, and remove their folder", async () => {
    const there = folder();
    const starter = Bun.spawn([process.execPath, fileURLToPath(fixture("abandoning"))], {
      env: { ...process.env, TMPDIR: there },
      stdout: "pipe",
    });
    const { value } = await starter.stdout.getReader().read();
    const pids = new TextDecoder().decode(value).trim().split(" ");
    expect(pids).toHaveLength(2);
    expect(readdirSync(there)).toHaveLength(1);
    starter.kill("SIGKILL");
    const states = (): string[] =>
      pids.map((pid) => Bun.spawnSync(["ps", "-o", "stat=", "-p", pid]).stdout.toString().trim());
    const limit = performance.now() + 20_000;
    while (states().some((state) => !/^(Z.*)?$/.test(state)) && performance.now() < limit) await Bun.sleep(50);
    expect(states().filter((state) => !/^(Z.*)?$/.test(state))).toEqual([]);
    expect(readdirSync(there)).toEqual([]);
    rmSync(there, { recursive: true });
  });

  test("leaves nothing behind", async () => {
    const left = () => readdirSync(tmpdir()).filter((name) => name.startsWith("c10d-ranks-"));
    const before = left();
    const job = await startRanks(1, fixture("endings"));
    const during = left().filter((name) => !before.includes(name));
    await job.done;
    expect(during.length).toBeGreaterThan(0);
    expect(left().filter((name) => during.includes(name))).not.toEqual(during);
  });
});
