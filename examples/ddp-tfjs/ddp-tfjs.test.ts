import { expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { describeGloo } from "../../src/backends/gloo/fixtures/availability.ts";

setDefaultTimeout(120_000);

const c10d = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
const main = fileURLToPath(new URL("main.ts", import.meta.url));

describeGloo("example ddp-tfjs", () => {
  test("two ranks train one network", async () => {
    const job = Bun.spawn([process.execPath, c10d, "run", "-n", "2", "--no-prefix", main], {
      env: { ...process.env, NO_COLOR: "1" },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      timeout: 100_000,
      killSignal: "SIGKILL",
    });
    const [stdout, stderr, exitCode] = await Promise.all([job.stdout.text(), job.stderr.text(), job.exited]);
    console.log(stdout.trim());
    expect({ exitCode, stderr: exitCode === 0 ? "" : stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toMatch(/^epoch 2: loss 0\.\d+$/m);
    expect(stdout).toMatch(
      /^2 ranks on wasm: [\d.]+ ms a step, 9\d\.\d % of 2000 test digits; weights are bit-identical$/m,
    );
  });
});
