import { expect, test } from "bun:test";
import { fileURLToPath } from "node:url";

const script = fileURLToPath(new URL("./tcp-store.ts", import.meta.url));
const full = process.env.C10D_SWEEP === "full";

test("the server outlives random frames, with bounded memory and undisturbed clients", async () => {
  const child = Bun.spawn([process.execPath, script, ...(full ? ["--full"] : [])], {
    stdout: "pipe",
    stderr: "pipe",
    timeout: full ? 500_000 : 50_000,
    killSignal: "SIGKILL",
  });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  await child.exited;
  // One line for each reason to refuse a client because of the secret, however often it occurs.
  const refusals = stderr.match(/^c10d store: the client at .* was refused: .*\n/gm) ?? [];
  expect(refusals.length).toBeLessThan(3);
  expect([child.exitCode, refusals.reduce((rest, line) => rest.replace(line, ""), stderr)]).toEqual([0, ""]);
  const summary = /^(\d+) frames .*$/m.exec(stdout);
  expect(Number(summary?.[1])).toBeGreaterThanOrEqual(full ? 1_000_000 : 20_000);
  console.log(`sample fuzz: ${summary?.[0]}`);
}, 510_000);
