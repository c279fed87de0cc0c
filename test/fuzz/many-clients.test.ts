import { expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";

setDefaultTimeout(60_000);

const script = fileURLToPath(new URL("../../bench/store-clients.ts", import.meta.url));

test("2000 clients join one server, and all are served", async () => {
  const child = Bun.spawn([process.execPath, script, "2000"], {
    stdout: "pipe",
    stderr: "pipe",
    timeout: 50_000,
    killSignal: "SIGKILL",
  });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  expect([await child.exited, stderr]).toEqual([0, ""]);
  const all = /^barrier .* (\d+ ms)$/m.exec(stdout)?.[1];
  const peakMiB = Number(/(\d+) MiB at most/.exec(stdout)?.[1]);
  console.log(`sample 2000 clients: all through the barrier after ${all}, server ${peakMiB} MiB at most`);
  expect(peakMiB).toBeLessThan(512);
});
