import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ForkedPython } from "./forked-python.ts";
import { type HookCase, type HookPlan, type HookReport, unpacked } from "./hook-plan.ts";
import { freePort, peerEnvironment, runProgram } from "./programs.ts";
import { describeWithTorch, fixture } from "./torch.ts";

setDefaultTimeout(120_000);

type Kind = HookReport["kind"];

const powerSGD = { startPowerSGDIter: 2 };
const cases: readonly HookCase[] = [
  { name: "fp16", hook: "fp16", steps: 3 },
  { name: "bf16", hook: "bf16", steps: 3 },
  { name: "fp16 wrapper", hook: "fp16Wrapped", steps: 3 },
  { name: "a byte each", hook: "perTensor", steps: 3 },
  { name: "a byte each, in channels", hook: "perChannel", steps: 3 },
  { name: "PowerSGD", hook: "PowerSGD", options: powerSGD, steps: 6, tolerance: 2e-5 },
  {
    name: "PowerSGD of rank 2",
    hook: "PowerSGD",
    options: { ...powerSGD, matrixApproximationRank: 2, minCompressionRate: 1, randomSeed: 7 },
    steps: 6,
    tolerance: 2e-5,
  },
  {
    name: "PowerSGD of rank 4, in batches, with an epsilon",
    hook: "PowerSGD",
    options: {
      ...powerSGD,
      matrixApproximationRank: 4,
      batchTensorsWithSameShape: true,
      orthogonalizationEpsilon: 1e-8,
      minCompressionRate: 1.2,
    },
    steps: 6,
    tolerance: 2e-5,
  },
  {
    name: "PowerSGD without error feedback and warm start, from the beginning",
    hook: "PowerSGD",
    options: { startPowerSGDIter: 0, useErrorFeedback: false, warmStart: false, matrixApproximationRank: 3 },
    steps: 4,
    tolerance: 2e-5,
  },
  {
    name: "PowerSGD with error feedback only",
    hook: "PowerSGD",
    options: { ...powerSGD, warmStart: false, matrixApproximationRank: 2 },
    steps: 5,
    tolerance: 2e-5,
  },
  {
    name: "PowerSGD that compresses nothing",
    hook: "PowerSGD",
    options: { ...powerSGD, minCompressionRate: 1000 },
    steps: 4,
  },
  {
    name: "PowerSGD of float64",
    hook: "PowerSGD",
    options: { ...powerSGD, matrixApproximationRank: 3 },
    dtype: "float64",
    steps: 5,
    tolerance: 1e-12,
  },
  {
    name: "batched PowerSGD",
    hook: "batchedPowerSGD",
    options: { ...powerSGD, matrixApproximationRank: 1 },
    steps: 5,
    tolerance: 2e-5,
  },
  {
    name: "batched PowerSGD of rank 4",
    hook: "batchedPowerSGD",
    options: { ...powerSGD, matrixApproximationRank: 4, warmStart: false },
    steps: 5,
    tolerance: 2e-5,
  },
  { name: "PowerSGD as float16", hook: "fp16PowerSGD", options: powerSGD, steps: 4, tolerance: 5e-3 },
  {
    name: "PowerSGD as bfloat16",
    hook: "bf16PowerSGD",
    options: { ...powerSGD, matrixApproximationRank: 2 },
    steps: 4,
    tolerance: 5e-2,
  },
  {
    name: "post-local SGD",
    hook: "postLocalSGD",
    options: { startLocalSGDIter: 2 },
    averager: { period: 2, warmup_steps: 2 },
    steps: 6,
  },
  {
    name: "post-local SGD without any all-reduce",
    hook: "postLocalSGD",
    options: { startLocalSGDIter: 1, postLocalGradientAllreduce: false },
    averager: { period: 3, warmup_steps: 1 },
    steps: 5,
  },
];
// Two of one shape, one of more than two dimensions; 6 x 2 is not worth compressing.
const shapes = [[24, 41], [24], [8, 3, 5, 2], [24, 41], [6, 2], [40, 30]];
const plan: HookPlan = { shapes, cases };

const limitMs = 60_000;

describeWithTorch("communication hooks, as PyTorch has them", (python) => {
  let folder = "";
  let pythons: ForkedPython;
  let expected: readonly HookReport[];
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "c10d-hooks-"));
    const modules = ["torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook", "numpy"];
    pythons = await ForkedPython.start(python, peerEnvironment, modules);
    expected = await run(["Python", "Python"]);
  });
  afterAll(async () => {
    await pythons[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  /** Runs a job; returns what its ranks report. */
  async function run(kinds: readonly Kind[]): Promise<HookReport[]> {
    const results = mkdtempSync(join(folder, "run-"));
    const port = freePort();
    const ended = await Promise.all(
      kinds.map((kind, rank) => {
        const argv = [fixture(kind === "Bun" ? "comm-hooks-rank.ts" : "comm_hooks_rank.py"), JSON.stringify(plan)];
        const env = {
          RANK: String(rank),
          WORLD_SIZE: String(kinds.length),
          MASTER_ADDR: "127.0.0.1",
          MASTER_PORT: String(port),
          RESULT_FOLDER: results,
        };
        return kind === "Bun"
          ? runProgram([process.execPath, ...argv], env, limitMs)
          : pythons.run({ argv }, env, limitMs);
      }),
    );
    const failed = ended.filter(({ code }) => code !== 0);
    expect(failed.map(({ code, stderr }) => `exit code ${code}: ${stderr.slice(-2_000)}`)).toEqual([]);
    return kinds.map((_, rank) => JSON.parse(readFileSync(join(results, String(rank)), "utf8")) as HookReport);
  }

  /** The largest difference of any step of a case. */
  function difference(reports: readonly HookReport[], rank: number, index: number): number {
    const [ours, theirs] = [reports[rank]?.results[index]?.steps ?? [], expected[rank]?.results[index]?.steps ?? []];
    expect(theirs.length).toBeGreaterThan(0);
    expect(ours).toHaveLength(theirs.length);
    let most = 0;
    for (const [step, text] of ours.entries()) {
      const [values, others] = [unpacked(text), unpacked(theirs[step] as string)];
      expect(values).toHaveLength(others.length);
      for (const [i, value] of values.entries()) {
        most = Math.max(most, Math.abs(value - (others[i] as number)));
      }
    }
    return most;
  }

  test("the gradients of PyTorch's ranks differ, and their averages do not", () => {
    const steps = (rank: number, name: string) => expected[rank]?.results.find((each) => each.name === name)?.steps;
    expect(steps(0, "PowerSGD")).toEqual(steps(1, "PowerSGD") ?? []);
    const local = "post-local SGD without any all-reduce";
    expect(steps(0, local)?.at(-2)).not.toBe(steps(1, local)?.at(-2));
  });

  describe.each<[string, Kind[]]>([
    ["Bun, Bun", ["Bun", "Bun"]],
    ["Bun, Python", ["Bun", "Python"]],
    ["Python, Bun", ["Python", "Bun"]],
  ])("%s", (_, kinds) => {
    let reports: readonly HookReport[] = [];
    beforeAll(async () => {
      reports = await run(kinds);
      expect(reports.map(({ kind }) => kind)).toEqual(kinds);
    });

    test.each(cases.map((each, index) => [each.name, index] as const))("%s", (_, index) => {
      const { tolerance = 0 } = cases[index] as HookCase;
      for (const rank of kinds.keys()) {
        expect(difference(reports, rank, index)).toBeLessThanOrEqual(tolerance);
        expect(reports[rank]?.results[index]?.stats).toEqual(expected[rank]?.results[index]?.stats ?? null);
      }
    });
  });
});
