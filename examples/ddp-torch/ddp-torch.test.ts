import { expect, setDefaultTimeout, test } from "bun:test";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describeWithTorch } from "../../test/interop/torch.ts";

setDefaultTimeout(120_000);

const job = fileURLToPath(new URL("rank.sh", import.meta.url));
const jobs: readonly (readonly [first: string, ranks: number])[] = [
  ["python", 2],
  ["bun", 2],
  ...(process.env.C10D_SWEEP === "full"
    ? ([
        ["python", 3],
        ["bun", 4],
      ] as const)
    : []),
];

describeWithTorch("example ddp-torch", (python) => {
  test.each(jobs)("rank 0 in %s, %d ranks, under torchrun", async (first, ranks) => {
    const torchrun = join(dirname(python), "torchrun");
    const child = Bun.spawn([torchrun, "--standalone", "--nproc-per-node", `${ranks}`, "--no-python", job], {
      env: {
        ...process.env,
        ...{ PYTHON: python, BUN: process.execPath, FIRST: first, EPOCHS: "3", OMP_NUM_THREADS: "1", NO_COLOR: "1" },
      },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      timeout: 100_000,
      killSignal: "SIGKILL",
    });
    const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
    expect({ code: await child.exited, stderr: child.exitCode === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
    const losses = [...stdout.matchAll(/epoch \d: loss (\d\.\d{4})/g)].map(([, loss]) => Number(loss));
    expect(losses).toHaveLength(3);
    expect(losses.at(-1)).toBeLessThan((losses[0] ?? 0) * 0.8);
    const [inTorch, inBun] =
      first === "python"
        ? [Math.ceil(ranks / 2), Math.floor(ranks / 2)]
        : [Math.floor(ranks / 2), Math.ceil(ranks / 2)];
    expect(stdout).toMatch(new RegExp(`\\d+ steps by ${inTorch} in PyTorch, ${inBun} in Bun`));
    expect(stdout).toMatch(/largest difference between ranks \S+, from one process \S+/);
  });
});
