import { expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { sweepFromEnvironment } from "../../testing/backend-suite/backend-suite.ts";
import { testBackend } from "../../testing/index.ts";
import { describeUcc, spawn } from "./fixtures/availability.ts";
import plugin from "./plugin.ts";

setDefaultTimeout(120_000);

const { full, seed } = sweepFromEnvironment();
// A smoke sweep runs one of the larger jobs, and the other one the next day.
const larger = 3 + (seed % 2);
if (!full) console.log(`sample: ucc conformance, 1, 2 and ${larger} ranks, C10D_SEED=${seed}`);

describeUcc("ucc conformance", () => {
  testBackend(plugin, { worldSizes: full ? [1, 2, 3, 4] : [1, 2, larger], spawn });

  test("in Workers, where ops work on copies", async () => {
    const file = fileURLToPath(new URL("./fixtures/conformance-in-workers.ts", import.meta.url));
    const child = Bun.spawn({
      cmd: [...(spawn.runtime ?? [process.execPath]), "test", "--timeout", "60000", file],
      env: { ...process.env, NO_COLOR: "1" },
      stdout: "pipe",
      stderr: "pipe",
      timeout: 110_000,
      killSignal: "SIGKILL",
    });
    const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    expect({ code: await child.exited, failed: err.match(/^\(fail\).*$/gm) }).toEqual({ code: 0, failed: null });
    expect(out + err).toMatch(/suite: backend ucc: \d+ cases with 2 ranks in Workers/);
  });
});
