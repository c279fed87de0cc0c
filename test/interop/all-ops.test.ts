import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ForkedPython } from "./forked-python.ts";
import { type OpPlan, planFor } from "./op-plan.ts";
import { freePort, peerEnvironment, runProgram } from "./programs.ts";
import { describeWithTorch, fixture } from "./torch.ts";

setDefaultTimeout(500_000);

type Kind = "Bun" | "Python";

const full = process.env.C10D_SWEEP === "full";
const repeats = full ? 30 : 2;
const lazyRepeats = full ? 10 : 1;
const limitMs = full ? 400_000 : 110_000;

const scriptOf = (kind: Kind): string => fixture(kind === "Bun" ? "bun-ops.ts" : "python_ops.py");

/** Runs a job of these ranks; returns the digests that each reports, by rank. */
async function runJob(
  pythons: ForkedPython,
  kinds: readonly Kind[],
  plan: OpPlan,
  environment: Readonly<Record<string, string>> = {},
): Promise<string[][]> {
  const job = {
    WORLD_SIZE: String(kinds.length),
    MASTER_ADDR: "127.0.0.1",
    MASTER_PORT: String(freePort()),
    ...environment,
  };
  const ended = await Promise.all(
    kinds.map((kind, rank) => {
      const argv = [scriptOf(kind), JSON.stringify(plan)];
      const env = { RANK: String(rank), ...job };
      return kind === "Bun"
        ? runProgram([process.execPath, ...argv], env, limitMs)
        : pythons.run({ argv }, env, limitMs);
    }),
  );
  const bad = ended.flatMap(({ code, stderr }, rank) =>
    code === 0 ? [] : `rank ${rank} (${kinds[rank]}): ${code ?? "killed"}: ${stderr.slice(-1_500)}`,
  );
  expect(bad).toEqual([]);
  return ended.map(({ stdout }) => digestsIn(stdout));
}

/** The same under torchrun, whose ranks share one output: each writes to its own file. */
async function runUnderTorchrun(
  pythons: ForkedPython,
  python: string,
  kinds: readonly Kind[],
  plan: OpPlan,
): Promise<string[][]> {
  const folder = mkdtempSync(join(tmpdir(), "c10d-all-ops-"));
  try {
    const cases = kinds.map((kind, rank) => {
      const command = [kind === "Bun" ? process.execPath : python, scriptOf(kind), JSON.stringify(plan)];
      const quoted = command.map((word) => `'${word}'`);
      return `${rank}) exec ${quoted.join(" ")} > '${join(folder, String(rank))}';;`;
    });
    const ranks = ["sh", "-c", `case "$RANK" in ${cases.join(" ")} esac`];
    const argv = ["--standalone", "--nproc-per-node", `${kinds.length}`, "--no-python", ...ranks];
    const { code, stderr } = await pythons.run({ module: "torch.distributed.run", argv }, {}, limitMs);
    expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
    return kinds.map((_, rank) => digestsIn(readFileSync(join(folder, String(rank)), "utf8")));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function digestsIn(stdout: string): string[] {
  const line = stdout.split("\n").find((each) => each.startsWith("RESULT ")) ?? "RESULT {}";
  return (JSON.parse(line.slice(7)) as { digests?: string[] }).digests ?? [];
}

describeWithTorch("all ops in Gloo groups with PyTorch", (python) => {
  let pythons: ForkedPython;
  beforeAll(async () => {
    pythons = await ForkedPython.start(python, peerEnvironment);
  });
  afterAll(() => pythons[Symbol.asyncDispose]());

  const references = new Map<string, Promise<string[][]>>();
  /** The digests of PyTorch alone, once. */
  const referenceFor = (size: number, plan: OpPlan): Promise<string[][]> => {
    const once = { ...plan, repeats: 1 };
    const key = `${size} ${JSON.stringify(once)}`;
    const found = references.get(key) ?? runJob(pythons, Array<Kind>(size).fill("Python"), once);
    references.set(key, found);
    return found;
  };

  const lazy = { TORCH_GLOO_LAZY_INIT: "1" };
  test.each<[string, Kind[], number, Record<string, string>]>([
    ["Python, Bun", ["Python", "Bun"], repeats, {}],
    ["Bun, Python", ["Bun", "Python"], repeats, {}],
    ["Bun, Python, Bun", ["Bun", "Python", "Bun"], repeats, {}],
    ["Python, Bun, Python, Bun", ["Python", "Bun", "Python", "Bun"], repeats, {}],
    // Its ranks connect at the first op between two of them.
    ["Bun, Python, Bun; PyTorch in lazy-init mode", ["Bun", "Python", "Bun"], lazyRepeats, lazy],
    ["Python, Bun, Python, Bun; PyTorch in lazy-init mode", ["Python", "Bun", "Python", "Bun"], lazyRepeats, lazy],
    ["Bun, Python, Bun; two interfaces", ["Bun", "Python", "Bun"], lazyRepeats, { GLOO_SOCKET_IFNAME: "lo,lo" }],
  ])("%s", async (_, kinds, times, environment) => {
    const plan = planFor(kinds.length, times);
    await expectReference(kinds, plan, await runJob(pythons, kinds, plan, environment));
  });

  const detail = { TORCH_DISTRIBUTED_DEBUG: "DETAIL" };
  test.each<[string, Kind[]]>([
    ["Python, Bun", ["Python", "Bun"]],
    ["Bun, Python", ["Bun", "Python"]],
  ])("%s; debug level DETAIL, where ranks compare each op", async (_, kinds) => {
    const plan = planFor(kinds.length, 2);
    await expectReference(kinds, plan, await runJob(pythons, kinds, plan, detail));
  });

  test.each<[string, Kind[]]>([
    ["Bun, Python, Bun", ["Bun", "Python", "Bun"]],
    ["Python, Bun, Python", ["Python", "Bun", "Python"]],
  ])("%s; debug level DETAIL", async (_, kinds) => {
    const all = planFor(kinds.length, 2);
    // PyTorch numbers messages together with collectives, so that those of two ranks look like a mismatch to the third.
    const steps = all.steps.filter(({ kind }) => !["sendRecv", "recvAny", "monitoredBarrier"].includes(kind));
    const plan = { ...all, steps };
    const [reference] = await referenceFor(kinds.length, plan);
    expect(reference?.length).toBeGreaterThan(steps.length);
    for (const [rank, found] of (await runJob(pythons, kinds, plan, detail)).entries()) {
      if (rank === 0) expect(found).toEqual([...(reference ?? []), ...(reference ?? [])]);
      else expect(found.length).toBeGreaterThanOrEqual(2 * steps.length);
    }
  });

  // The only difference is that the store is in the agent, so one job is enough for the smaller run.
  const underTorchrun: [string, Kind[]][] = [
    ["Bun, Python, Bun", ["Bun", "Python", "Bun"]],
    ["Python, Bun", ["Python", "Bun"]],
    ["Bun, Python, Python, Bun", ["Bun", "Python", "Python", "Bun"]],
  ];
  test.each(full ? underTorchrun : underTorchrun.slice(0, 1))("%s, under torchrun", async (_, kinds) => {
    const plan = planFor(kinds.length, lazyRepeats);
    await expectReference(kinds, plan, await runUnderTorchrun(pythons, python, kinds, plan));
  });

  /** Checks that every rank reports the digests of PyTorch alone. */
  async function expectReference(kinds: readonly Kind[], plan: OpPlan, found: readonly string[][]): Promise<void> {
    const reference = await referenceFor(kinds.length, plan);
    expect(reference[0]?.length).toBeGreaterThanOrEqual(plan.steps.length);
    expect(found).toEqual(reference.map((once) => Array.from({ length: plan.repeats }, () => once).flat()));
  }
});
