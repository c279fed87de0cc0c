import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

setDefaultTimeout(60_000);

// Runs the example of docs/stores.md.

const root = resolve(import.meta.dir, "../..");
const page = readFileSync(join(root, "docs/stores.md"), "utf8");

let folder = "";
let script = "";
beforeAll(() => {
  mkdirSync(join(root, "build"), { recursive: true });
  folder = mkdtempSync(join(root, "build/stores-")); // inside the package, where its own name resolves
  script = join(folder, "store.ts");
  writeFileSync(script, /^```ts\n([\s\S]*?)^```/m.exec(page)?.[1] ?? "");
});
afterAll(() => rmSync(folder, { recursive: true }));

async function run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<[number, string]> {
  const child = Bun.spawn([process.execPath, ...args], {
    env: { ...process.env, NO_COLOR: "1", ...env },
    stdout: "pipe",
    stderr: "pipe",
    timeout: 40_000,
  });
  const [stdout, stderr, exitCode] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return [exitCode, stdout + stderr];
}

test("a store without a group, under c10d run", async () => {
  const [exitCode, output] = await run([join(root, "src/cli/main.ts"), "run", "-n", "2", "--no-prefix", script]);
  expect([exitCode, output.split("\n").sort()]).toEqual([0, ["", "rank 1 1", "rank 1 2"]]);
});

test("a store without a group, by hand", async () => {
  const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() });
  const port = String(server.port);
  await server.stop(true);
  const meeting = { WORLD_SIZE: "2", MASTER_ADDR: "127.0.0.1", MASTER_PORT: port };
  const ranks = await Promise.all(["0", "1"].map((RANK) => run([script], { ...meeting, RANK })));
  expect(ranks.sort()).toEqual([
    [0, "rank 1 1\n"],
    [0, "rank 1 2\n"],
  ]);
});
