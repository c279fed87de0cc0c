import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describeGloo } from "../../src/backends/gloo/fixtures/availability.ts";
import { describeMpi, launchWith } from "../../src/backends/mpi/fixtures/availability.ts";
import { describeUcc, spawn } from "../../src/backends/ucc/fixtures/availability.ts";
import { runCli } from "../../src/cli/fixtures/cli-process.ts";
import { interruptedWrite } from "../../src/files/fixtures/interrupted-write.ts";
import { pickle } from "../../src/pickle/index.ts";
import { smokeSample } from "../../src/testing/backend-suite/smoke-sample.ts";
import { type SpawnOptions, spawnRanks } from "../../src/testing/index.ts";
import { MadeJob } from "../../src/trace/fixtures/made-job.ts";
import type { Scenario, TracedJob } from "./fixtures/traced-rank.ts";
import { ForkedPython } from "./forked-python.ts";
import { freePort, peerEnvironment, runProgram } from "./programs.ts";
import { describeWithTorch, describeWithTorch214, fixture } from "./torch.ts";

setDefaultTimeout(180_000);

const LIMIT_MS = 60_000;
const environment = { ...peerEnvironment, TORCH_FR_BUFFER_SIZE: "2000" };
const scenarios: readonly Scenario[] = ["healthy", "hang", "desync"];

/** The last rank is the one that does something else. */
const mixedJobs: readonly (readonly [Scenario, readonly string[]])[] = [
  ["healthy", ["Bun", "Python", "Bun"]],
  ["hang", ["Bun", "Python", "Bun"]],
  ["hang", ["Bun", "Bun", "Python"]],
  ["desync", ["Bun", "Bun", "Python"]],
];

let folders = "";
beforeAll(() => {
  folders = mkdtempSync(join(tmpdir(), "c10d-frtrace-"));
});
afterAll(() => rmSync(folders, { recursive: true }));

function newFolder(): string {
  const folder = mkdtempSync(join(folders, "job-"));
  mkdirSync(join(folder, "json"));
  return folder;
}

/** The torchfrtrace of one version of PyTorch. */
interface Analyser {
  readonly pythons: ForkedPython;
  /** Its script. */
  readonly program: string;
}

/** What torchfrtrace says of the pickles of a folder, among which is what a killed rank left of its own. */
async function torchfrtrace({ pythons, program }: Analyser, folder: string): Promise<string> {
  const pickles = mkdtempSync(join(folders, "pickles-"));
  for (const name of readdirSync(folder)) if (/^rank_\d+$/.test(name)) cpSync(join(folder, name), join(pickles, name));
  await interruptedWrite(join(pickles, "rank_3"));
  const { code, stdout, stderr } = await pythons.run({ argv: [program, pickles] }, {}, LIMIT_MS);
  expect([code, stderr.includes("Traceback")]).toEqual([0, false]);
  return `${stdout}${stderr}`.replace(/^.*tabulate is not installed.*\n/m, "").trim();
}

/** It says what is wrong, and of a healthy job nothing at all. */
async function expectVerdict(scenario: Scenario, number: number, folder: string, analyser: Analyser): Promise<void> {
  const said = await torchfrtrace(analyser, folder);
  if (scenario === "healthy") {
    expect(said).toBe("");
    return;
  }
  if (scenario === "hang") {
    expect(said).toContain(`Not all ranks joining collective, sequence number: ${number}\n`);
    expect(said).toContain("missing ranks: {2}");
  } else {
    expect(said).toContain(`Collective sequence number: ${number} has errors`);
    expect(said).toContain("COLLECTIVE_TYPE_MISMATCH, Expected collective type: 'broadcast' does not match found");
  }
  expect(said.match(/sequence number/g)).toHaveLength(1);
}

/** What `c10d trace` says of a folder, which does not depend on the version of PyTorch. */
const ourVerdicts = new Map<string, ReturnType<typeof runCli>>();

async function expectOurVerdict(scenario: Scenario, number: number, folder: string): Promise<void> {
  const running = ourVerdicts.get(folder) ?? runCli(["trace", "--json", folder]);
  ourVerdicts.set(folder, running);
  const { exitCode, stdout } = await running;
  const { findings, absent, unreadable } = JSON.parse(stdout);
  expect([absent, unreadable]).toEqual([[], []]);
  expect(exitCode).toBe(scenario === "healthy" ? 0 : 1);
  const kind = scenario === "hang" ? "missing" : "mismatch";
  expect(findings).toMatchObject(scenario === "healthy" ? [] : [{ kind, group: "0", seq: number, ranks: [2] }]);
  expect(findings).toHaveLength(scenario === "healthy" ? 0 : 1);
  if (scenario === "hang") expect(findings[0].text).toMatch(/ \(traced.rank\.(ts|py):\d+\)/);
}

/** The last 8 ops of 3 ranks after 20 collectives, and as many of ranks 0 and 1 alone. */
function overflowed(scenario: Scenario, hasPair: boolean) {
  const job = new MadeJob(3);
  job.group("1", "pair", [0, 1]);
  for (let at = 0; at < 200; at += 10) {
    job.all({ at, line: "traced-rank.ts:1" });
    if (hasPair) job.all({ at: at + 5, group: "1" });
  }
  if (scenario === "hang") job.all({ at: 30_000, state: "scheduled", line: "traced-rank.ts:1" }, [0, 1]);
  return job.ranks.map((each) => {
    each.capacity = 8;
    return { rank: each.rank, dump: each.dump() };
  });
}

/** Dumps of jobs of Bun's ranks, which each version of torchfrtrace looks at. */
const bunJobs = new Map<string, Promise<string>>();

function bunJob(backend: string, scenario: Scenario, options: SpawnOptions): Promise<string> {
  const key = `${backend} ${scenario}`;
  const job = bunJobs.get(key) ?? runBunJob({ backend, scenario, folder: newFolder() }, options);
  bunJobs.set(key, job);
  return job;
}

async function runBunJob(args: TracedJob, options: SpawnOptions): Promise<string> {
  const outcomes = await spawnRanks(3, fixture("traced-rank.ts"), { ...options, args, timeout: LIMIT_MS });
  const failed = outcomes.flatMap(({ error, hung, stderr }) => error?.message ?? (hung ? `hung: ${stderr}` : []));
  expect(failed).toEqual([]);
  return args.folder;
}

/** @param isSample Whether only Gloo is tried, and one mixed job: the analysers of both versions are almost the same. */
function testVersion(python: string, isSample: boolean): void {
  let analyser: Analyser;
  beforeAll(async () => {
    // PyTorch loads it to dump a flight recorder, for its names of lines in compiled code.
    const modules = ["torch._inductor.codecache"];
    const pythons = await ForkedPython.start(python, environment, modules);
    analyser = { pythons, program: join(dirname(python), "torchfrtrace") };
  });
  afterAll(() => analyser.pythons[Symbol.asyncDispose]());

  const testBunJobs = (backend: string, options: SpawnOptions, count: number): void => {
    test.each(smokeSample(`torchfrtrace of dumps of ${backend}`, scenarios, count, backend.length))(
      `${backend}, %s: its verdict on Bun's dumps, and that of c10d trace`,
      async (scenario) => {
        const folder = await bunJob(backend, scenario, options);
        await expectVerdict(scenario, 20, folder, analyser);
        for (const dumps of [folder, join(folder, "json")]) await expectOurVerdict(scenario, 20, dumps);
      },
    );
  };
  describeGloo("gloo", () => testBunJobs("gloo", {}, 3));
  if (!isSample) describeMpi("mpi", "openmpi", () => testBunJobs("mpi", launchWith("openmpi"), 1));
  if (!isSample) describeUcc("ucc", () => testBunJobs("ucc", spawn, 2));

  // It cuts all dumps at the largest of their first record ids. docs/trace.md says so.
  const overflows = [
    ["healthy", "ranks that called more ops than others", "missing ranks: {2}"],
    ["healthy", "ranks that called as many ops", undefined],
    ["hang", "ranks that called more ops than others", "missing ranks: {2}"],
  ] as const;
  test.each(isSample ? overflows.slice(0, 1) : overflows)(
    "a ring that has overflowed, %s, of %s",
    async (scenario, ranks, said) => {
      const folder = newFolder();
      for (const { rank, dump } of overflowed(scenario, ranks.includes("more"))) {
        writeFileSync(join(folder, `rank_${rank}`), pickle(dump));
      }
      const verdict = await torchfrtrace(analyser, folder);
      if (said === undefined) expect(verdict).toBe("");
      else expect(verdict).toContain(said);
      await expectOurVerdict(scenario, 21, folder);
      const pickles = newFolder();
      await runCli(["trace", folder, "--pickle", pickles]);
      await expectVerdict(scenario, 21, pickles, analyser);
    },
  );

  test.each(isSample ? mixedJobs.slice(2, 3) : smokeSample("torchfrtrace of mixed jobs", mixedJobs, 3))(
    "%s of %j: the verdict of c10d trace, and its own on what that writes",
    async (scenario, kinds) => {
      const folder = newFolder();
      await runMixed(kinds, { backend: "gloo", scenario, folder, isMixed: true }, analyser.pythons);
      for (const dumps of [folder, join(folder, "json")]) await expectOurVerdict(scenario, 10, dumps);
      const pickles = newFolder();
      expect((await runCli(["trace", folder, "--pickle", pickles])).exitCode).toBe(scenario === "healthy" ? 0 : 1);
      await expectVerdict(scenario, 10, pickles, analyser);
    },
  );
}

const isFull = process.env.C10D_SWEEP === "full";
describeWithTorch("torchfrtrace of PyTorch 2.13", (python) => testVersion(python, false));
describeWithTorch214("torchfrtrace of PyTorch 2.14", (python) => testVersion(python, !isFull));

async function runMixed(kinds: readonly string[], job: TracedJob, pythons: ForkedPython): Promise<void> {
  const port = freePort();
  const ended = kinds.map(async (kind, rank) => {
    const env = {
      RANK: String(rank),
      WORLD_SIZE: String(kinds.length),
      MASTER_ADDR: "127.0.0.1",
      MASTER_PORT: String(port),
    };
    const argv = [fixture(kind === "Bun" ? "traced-rank.ts" : "traced_rank.py"), JSON.stringify(job)];
    const ended =
      kind === "Bun"
        ? runProgram([process.execPath, ...argv], { ...environment, ...env }, LIMIT_MS)
        : pythons.run({ argv }, env, LIMIT_MS);
    const { code, stderr } = await ended;
    return code === 0 ? [] : [`rank ${rank} (${kind}): ${stderr.slice(-1500)}`];
  });
  expect((await Promise.all(ended)).flat()).toEqual([]);
}
