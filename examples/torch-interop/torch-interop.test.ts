import { expect, setDefaultTimeout, test } from "bun:test";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describeWithTorch } from "../../test/interop/torch.ts";

setDefaultTimeout(120_000);

const job = fileURLToPath(new URL("rank.sh", import.meta.url));

describeWithTorch("example torch-interop", (python) => {
  // With 4 ranks several evaluators share the work; 2 are the smallest job.
  test.each(process.env.C10D_SWEEP === "full" ? [2, 4] : [4])("under torchrun, %d ranks", async (n) => {
    const torchrun = join(dirname(python), "torchrun");
    const child = Bun.spawn([torchrun, "--standalone", "--nproc-per-node", `${n}`, "--no-python", job], {
      env: { ...process.env, PYTHON: python, BUN: process.execPath, EPOCHS: "2", OMP_NUM_THREADS: "1", NO_COLOR: "1" },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      timeout: 100_000,
      killSignal: "SIGKILL",
    });
    const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
    expect({ code: await child.exited, stderr: child.exitCode === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toContain(`${n - 1} evaluators in Bun`);
    expect(stdout).toMatch(/epoch 2: train loss 0\.\d+, test loss 0\.\d+, [\d +]+ = \d{4} of 2000 right/);
    expect(stdout).toContain("PyTorch computes the same losses and hits itself");
  });
});
