import { expect, setDefaultTimeout, test } from "bun:test";
import { type OpPlan, planFor } from "./op-plan.ts";
import { describeWithTorch, fixture } from "./torch.ts";

setDefaultTimeout(500_000);

type Kind = "Bun" | "Python";

const full = process.env.C10D_SWEEP === "full";
const repeats = full ? 30 : 3;
const lazyRepeats = full ? 10 : 1;
const limitMs = full ? 400_000 : 110_000;

/** Runs a job of these ranks; the digests that each tells, by rank. */
async function runJob(
  python: string,
  kinds: readonly Kind[],
  plan: OpPlan,
  environment: Readonly<Record<string, string>> = {},
): Promise<string[][]> {
  const port = freePort();
  const ended = await Promise.all(
    kinds.map(async (kind, rank) => {
      const command = kind === "Bun" ? [process.execPath, fixture("bun-ops.ts")] : [python, fixture("python_ops.py")];
      const child = Bun.spawn([...command, JSON.stringify(plan)], {
        env: {
          ...process.env,
          NO_COLOR: "1",
          TORCH_CPP_LOG_LEVEL: "ERROR",
          OMP_NUM_THREADS: "1",
          C10D_STORE_SECRET: "",
          RANK: String(rank),
          WORLD_SIZE: String(kinds.length),
          MASTER_ADDR: "127.0.0.1",
          MASTER_PORT: String(port),
          ...environment,
        },
        stdin: "ignore",
        stdout: "pipe",
        stderr: "pipe",
        timeout: limitMs,
        killSignal: "SIGKILL",
      });
      const [stdout, stderr] = await Promise.all([
        new Response(child.stdout).text(),
        new Response(child.stderr).text(),
      ]);
      await child.exited;
      return { kind, rank, code: child.exitCode, signal: child.signalCode, stdout, stderr };
    }),
  );
  const bad = ended.filter(({ code }) => code !== 0);
  expect(
    bad.map(
      ({ kind, rank, code, signal, stderr }) => `rank ${rank} (${kind}): ${code ?? signal}: ${stderr.slice(-1_500)}`,
    ),
  ).toEqual([]);
  return ended.map(({ stdout }) => {
    const line = stdout.split("\n").find((each) => each.startsWith("RESULT ")) ?? "RESULT {}";
    return (JSON.parse(line.slice(7)) as { digests?: string[] }).digests ?? [];
  });
}

describeWithTorch("all ops in Gloo groups with PyTorch", (python) => {
  const references = new Map<number, Promise<string[][]>>();
  /** What PyTorch alone comes to. */
  const referenceFor = (size: number): Promise<string[][]> => {
    const found = references.get(size) ?? runJob(python, Array<Kind>(size).fill("Python"), planFor(size, 1));
    references.set(size, found);
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
    const reference = await referenceFor(kinds.length);
    const plan = planFor(kinds.length, times);
    const told = await runJob(python, kinds, plan, environment);
    expect(reference[0]?.length).toBeGreaterThanOrEqual(plan.steps.length);
    for (const [rank, digests] of told.entries()) {
      const once = reference[rank] ?? [];
      expect(digests).toEqual(Array.from({ length: times }, () => once).flat());
    }
  });
});

/** A port that was free a moment ago. */
function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}
