import { expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { testBackend } from "../../testing/index.ts";
import { describeUcc, spawn } from "./fixtures/availability.ts";
import plugin from "./plugin.ts";

setDefaultTimeout(120_000);

describeUcc("ucc conformance", () => {
  testBackend(plugin, { worldSizes: [1, 2, 3, 4], spawn });

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
