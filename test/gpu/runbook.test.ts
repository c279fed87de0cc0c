import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describeWithTorch } from "../interop/torch.ts";
import { runChild } from "./children.ts";
import { bunRank, type Program, pythonRank, runPair } from "./pair.ts";
import type { PartResult, Report } from "./report.ts";

setDefaultTimeout(120_000);

const folder = mkdtempSync(join(tmpdir(), "c10d-runbook-"));
afterAll(() => rmSync(folder, { recursive: true }));
const root = fileURLToPath(new URL("../..", import.meta.url));
const script = fileURLToPath(new URL("run", import.meta.url));

interface Run {
  readonly code: number | null;
  readonly output: string;
  readonly report: Report;
  readonly text: string;
}

async function runbook(name: string, args: readonly string[], env: Record<string, string> = {}): Promise<Run> {
  const out = join(folder, name);
  const command = [script, "--out", out, ...args];
  const { code, output } = await runChild({ command, env, limitMs: 110_000, log: join(folder, `${name}.log`) });
  const read = (file: string): string => {
    try {
      return readFileSync(join(out, file), "utf8");
    } catch (cause) {
      throw new Error(`the runbook wrote no ${file}: ${output}`, { cause });
    }
  };
  return { code, output, report: JSON.parse(read("report.json")) as Report, text: read("report.md") };
}

/** PyTorch for CUDA, which runs on the emulator. */
const hasTorch = existsSync(process.env.C10D_TORCH_214_PYTHON || join(root, ".tools/torch-2.14/bin/python"));

describe("on the emulator, in a short form", () => {
  let run: Run;
  const part = (name: string): PartResult => {
    const found = run.report.parts.find((each) => each.name === name);
    if (found === undefined) throw new Error(`no part ${name}: ${run.output}`);
    return found;
  };
  beforeAll(async () => {
    run = await runbook("emulator", ["--emulator", "--short"]);
  }, 120_000);

  test("all parts pass but those that say why they are left out", () => {
    const outcomes = run.report.parts.map(({ name, outcome, lines }) => ({
      name,
      outcome,
      ...(outcome === "failed" && { lines }),
    }));
    expect(outcomes).toEqual([
      { name: "machine", outcome: "passed" },
      { name: "probe", outcome: "passed" },
      { name: "conformance", outcome: "passed" },
      { name: "two-ranks", outcome: "passed" },
      { name: "mixed", outcome: hasTorch ? "passed" : "skipped" },
      { name: "stress", outcome: "passed" },
      { name: "bandwidth", outcome: "passed" },
      { name: "conformance-two", outcome: "skipped" },
    ]);
    expect(part("conformance-two").lines).toEqual(["not in the short form"]);
    if (!hasTorch) expect(part("mixed").lines).toEqual(["there is no PyTorch that sees a GPU"]);
    expect(run.code).toBe(0);
    const counts = hasTorch ? "7 parts passed, 0 failed, 1 skipped" : "6 parts passed, 0 failed, 2 skipped";
    expect(run.output).toContain(counts);
  });

  test("the report says that it is of an emulator", () => {
    expect(run.text).toContain("On the emulator of CUDA and NCCL, not on a GPU");
    expect(part("probe").lines.join()).toContain("NCCL emulator");
    expect(part("bandwidth").lines).toContain("on an emulator: the times mean nothing");
    expect(run.report.facts).toMatchObject({ emulator: true, twoRanks: { devices: ["cuda:0", "cuda:1"] } });
  });

  test("figures are there", () => {
    expect(part("conformance").figures).toMatchObject({ failed: [] });
    expect(part("stress").figures).toMatchObject([
      { ranks: 1, wrong: [] },
      { ranks: 2, wrong: [] },
    ]);
    const [table = ""] = part("bandwidth").tables ?? [];
    for (const op of ["allReduce", "allGather", "reduceScatter", "broadcast"]) expect(table).toContain(`| ${op} | 4 |`);
  });

  test("what it leaves fits what comes back from a GPU machine: three files", () => {
    expect(readdirSync(join(folder, "emulator")).sort()).toEqual(["log.txt", "report.json", "report.md"]);
  });
});

test.each([
  ["2.30.7", "one GPU, NCCL_MULTI_RANK_GPU_ENABLE=1"],
  ["2.28.9", "one GPU, a host name for each rank, over sockets"],
])("two ranks share the only device of the emulator of NCCL %s", async (release, way) => {
  const library = join(root, `build/release/nccl-emulator/${release}/libnccl.so.2`);
  const env = { NCCL_EMULATOR_DEVICES: "1", C10D_NCCL_LIBRARY: library };
  const { code, report } = await runbook(release, ["--emulator", "--short", "--only", "two-ranks"], env);
  expect(code).toBe(0);
  expect(report.parts.at(-1)?.lines).toEqual([`${way}: 33 steps passed`]);
});

describe("where there is no device", () => {
  let run: Run;
  beforeAll(async () => {
    run = await runbook("bare", ["--short"], { C10D_CUDA_LIBRARY: "/nowhere/libcuda.so.1" });
  }, 120_000);

  test("it says so and goes on, and no part that needs one passes", () => {
    const outcomes: Record<string, string> = Object.fromEntries(
      run.report.parts.map(({ name, outcome }) => [name, outcome]),
    );
    const left = ["conformance", "two-ranks", "mixed", "stress", "bandwidth", "conformance-two"];
    const skipped = Object.fromEntries(left.map((name) => [name, "skipped"]));
    expect(outcomes).toEqual({ machine: "passed", probe: "failed", ...skipped });
    expect(run.text).toContain("/nowhere/libcuda.so.1");
    expect(run.code).toBe(1);
  });
});

test("runs without Bun, packages and a build, from what pack makes", async () => {
  const copy = join(folder, "copy");
  const pack = fileURLToPath(new URL("pack", import.meta.url));
  const made = await runChild({
    command: [pack, join(copy, "build/gpu")],
    env: { XZ_OPT: "-0" }, // fast
    limitMs: 60_000,
    log: join(folder, "pack.log"),
  });
  expect({ code: made.code, output: made.output }).toEqual({
    code: 0,
    output: expect.stringMatching(/working tree \d+ KiB/),
  });
  const left = new Set(["node_modules", ".git", ".tools", "build"]);
  for (const name of readdirSync(root)) {
    if (!left.has(name)) cpSync(join(root, name), join(copy, name), { recursive: true });
  }
  cpSync(join(root, "build/release/nccl-emulator"), join(copy, "build/release/nccl-emulator"), { recursive: true });
  const { code, output } = await runChild({
    command: [
      "env",
      "-i",
      "PATH=/usr/bin:/bin",
      `OUT=${folder}/out`,
      "test/gpu/run",
      "--emulator",
      "--only",
      "two-ranks",
    ],
    cwd: copy,
    limitMs: 60_000,
    log: join(folder, "copy.log"),
  });
  expect({ code, output }).toEqual({ code: 0, output: expect.stringContaining("3 parts passed, 0 failed, 0 skipped") });
  expect(readdirSync(join(folder, "out")).sort()).toEqual(["log.txt", "report.json", "report.md"]);
});

test("refuses a part that it does not have", async () => {
  const command = [script, "--only", "stres", "--out", join(folder, "unknown")];
  const { code, output } = await runChild({ command, limitMs: 20_000, log: join(folder, "unknown.log") });
  expect(code).toBe(2);
  expect(output).toContain('no part "stres": the parts are machine, probe, conformance');
});

test("a part that hangs is stopped together with the processes that it started", async () => {
  const log = join(folder, "hang.log");
  const command = ["sh", "-c", "sleep 60 & echo $!; wait"];
  const { code, timedOut, output } = await runChild({ command, limitMs: 300, log });
  expect({ code, timedOut }).toEqual({ code: null, timedOut: true });
  const pid = Number(output.trim());
  expect(pid).toBeGreaterThan(1);
  const isAlive = (): boolean => {
    try {
      return !readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ");
    } catch {
      return false;
    }
  };
  while (isAlive()) await Bun.sleep(10);
});

describeWithTorch("the exchange of a PyTorch rank and a Bun rank, over Gloo in place of NCCL", (python) => {
  test.each([
    ["PyTorch first", [pythonRank(python), bunRank]],
    ["Bun first", [bunRank, pythonRank(python)]],
  ] satisfies [string, [Program, Program]][])("%s", async (_, programs) => {
    const { passed, steps, wrong } = await runPair({ programs, devices: ["cpu", "cpu"], limitMs: 60_000 });
    expect({ passed, wrong }).toEqual({ passed: true, wrong: [] });
    expect(steps).toBeGreaterThan(15);
  });

  test("a wrong result is seen", async () => {
    const wrongRank = () => [python, "-c", "print('ok one'); print('WRONG two')"];
    const idle = () => [python, "-c", "print('ok one')"];
    const outcome = await runPair({ programs: [wrongRank, idle], devices: ["cpu", "cpu"], limitMs: 30_000 });
    expect(outcome).toMatchObject({
      passed: false,
      wrong: [expect.stringContaining("rank 0 ended with code 0: WRONG two")],
    });
  });
});
