import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { DType } from "../../src/tensor/index.ts";
import { ForkedPython, type PythonProgram } from "./forked-python.ts";
import { expectedDigests, type Plan, type PlanOp } from "./plan.ts";
import { freePort, peerEnvironment, runProgram } from "./programs.ts";
import { describeWithTorch, fixture } from "./torch.ts";

setDefaultTimeout(120_000);

type Kind = "Bun" | "Python";

interface Result {
  readonly rank: number;
  readonly size: number;
  readonly kind: Kind;
  readonly digests: readonly string[];
}

const floats: readonly DType[] = ["float32", "float64", "float16", "bfloat16"];
const integers: readonly DType[] = ["int8", "uint8", "int32", "int64"];
const arithmetic: readonly PlanOp[] = ["SUM", "PRODUCT", "MIN", "MAX"];
const bitwise: readonly PlanOp[] = ["BAND", "BOR", "BXOR"];
const lengths = [1, 3, 1000, 4099, 65_537];

const cases = [
  ...floats.flatMap((dtype) => arithmetic.map((op) => ({ dtype, op }))),
  ...integers.flatMap((dtype) => [...arithmetic, ...bitwise].map((op) => ({ dtype, op }))),
];

function planFor(size: number): Plan {
  const everybody = Array.from({ length: size }, (_, rank) => rank);
  return {
    repeats: process.env.C10D_SWEEP === "full" ? 5 : 2,
    allReduce: cases.map((each, i) => ({ ...each, length: lengths[i % lengths.length] ?? 1 })),
    groups: [everybody, everybody.slice(1), everybody.filter((rank) => rank % 2 === 0), [size - 1, 0]],
  };
}

const limitMs = 60_000;
let results = "";
beforeAll(() => {
  results = mkdtempSync(join(tmpdir(), "c10d-interop-"));
});
afterAll(() => rmSync(results, { recursive: true }));

interface Ended {
  readonly exitCode: number | null;
  readonly stderr: string;
  readonly reports: readonly Result[];
}

/** Checks that all ranks succeeded and reported the expected digests. */
function expectResults(ended: readonly Ended[], plan: Plan, kinds: readonly Kind[]): void {
  const failed = ended.filter(({ exitCode }) => exitCode !== 0);
  expect(failed.map(({ exitCode, stderr }) => `exit code ${exitCode}: ${stderr.slice(-2_000)}`)).toEqual([]);
  const reports = ended.flatMap((each) => each.reports).sort((a, b) => a.rank - b.rank);
  expect(reports.map(({ kind }) => kind)).toEqual([...kinds]);
  const expected = expectedDigests(plan, kinds.length);
  for (const { rank, size, digests } of reports) {
    expect(size).toBe(kinds.length);
    expect(digests).toEqual(expected[rank] ?? []);
  }
}

describeWithTorch("Gloo groups with PyTorch", (python) => {
  let pythons: ForkedPython;
  beforeAll(async () => {
    pythons = await ForkedPython.start(python, peerEnvironment);
  });
  afterAll(() => pythons[Symbol.asyncDispose]());

  /**
   * Runs a command line or a Python program until it exits; kills it if that takes too long. Its ranks write their
   * results to files, since under torchrun they share one standard output and their lines may interleave.
   */
  async function run(program: readonly string[] | PythonProgram, env: Record<string, string>): Promise<Ended> {
    // Inside the folder of this file, which is removed even if a test fails.
    const folder = mkdtempSync(join(results, "run-"));
    const own = { ...env, RESULT_FOLDER: folder };
    const ended = "length" in program ? runProgram(program, own, limitMs) : pythons.run(program, own, limitMs);
    const { code, stderr } = await ended;
    const reports = readdirSync(folder).map((file) => JSON.parse(readFileSync(join(folder, file), "utf8")) as Result);
    return { exitCode: code, stderr, reports };
  }

  const script = (kind: Kind, plan: Plan): string[] => [
    fixture(kind === "Bun" ? "bun-rank.ts" : "python_rank.py"),
    JSON.stringify(plan),
  ];
  const command = (kind: Kind, plan: Plan): string[] => [
    kind === "Bun" ? process.execPath : python,
    ...script(kind, plan),
  ];

  test.each<[string, Kind[]]>([
    ["Python, Bun", ["Python", "Bun"]],
    ["Bun, Python", ["Bun", "Python"]],
    ["Bun, Python, Bun", ["Bun", "Python", "Bun"]],
    ["Python, Bun, Python, Bun", ["Python", "Bun", "Python", "Bun"]],
  ])("%s, by env://", async (_, kinds) => {
    const plan = planFor(kinds.length);
    const port = freePort();
    const ended = await Promise.all(
      kinds.map((kind, rank) =>
        run(kind === "Bun" ? command(kind, plan) : { argv: script(kind, plan) }, {
          RANK: String(rank),
          WORLD_SIZE: String(kinds.length),
          MASTER_ADDR: "127.0.0.1",
          MASTER_PORT: String(port),
        }),
      ),
    );
    expectResults(ended, plan, kinds);
  });

  test("by c10d run --torch-compat", async () => {
    const plan = planFor(2);
    const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
    const launcher = [process.execPath, main, "run", "-n", "2", "--no-prefix", "--torch-compat", "--no-bun"];
    const ended = await run([...launcher, ...byRank(1, command("Python", plan), command("Bun", plan))], {});
    expectResults([ended], plan, ["Bun", "Python"]);
  });

  const torchrun = (...argv: readonly string[]): PythonProgram => ({
    module: "torch.distributed.run",
    argv: ["--nproc-per-node", "2", "--no-python", ...argv],
  });

  test("all ranks Bun, under torchrun", async () => {
    const plan = planFor(2);
    const ended = await run(torchrun("--master-port", String(freePort()), ...command("Bun", plan)), {});
    expectResults([ended], plan, ["Bun", "Bun"]);
  });

  // all-ops.test.ts has a job whose rank 0 is Bun's.
  test("rank 0 Python and the other Bun, under torchrun --standalone", async () => {
    const plan = planFor(2);
    const mixed = byRank(0, command("Python", plan), command("Bun", plan));
    // A secret in the environment is not used there, with a warning.
    const ended = await run(torchrun("--standalone", ...mixed), { C10D_STORE_SECRET: "not for torchrun" });
    expectResults([ended], plan, ["Python", "Bun"]);
    expect(ended.stderr).toContain("C10D_STORE_SECRET is not used under torchrun");
  });
});

/** A program that runs the first one on the given rank and the second one on the others. */
function byRank(rank: number, first: readonly string[], others: readonly string[]): string[] {
  const quoted = (command: readonly string[]) => command.map((word) => `'${word}'`).join(" ");
  return ["sh", "-c", `if [ "$RANK" = ${rank} ]; then exec ${quoted(first)}; else exec ${quoted(others)}; fi`];
}
