import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

setDefaultTimeout(60_000);

// Compiles the code of docs/containers.md and runs it.

const root = resolve(import.meta.dir, "../..");
const page = readFileSync(join(root, "docs/containers.md"), "utf8");
const files = new Map(
  Array.from(page.matchAll(/^```ts (\S+)\n([\s\S]*?)^```/gm), ([, name = "", code = ""]) => [name, code]),
);

let folder = "";
beforeAll(() => {
  mkdirSync(join(root, "build"), { recursive: true });
  folder = mkdtempSync(join(root, "build/containers-")); // inside the package, where its own name resolves
  for (const [name, code] of files) writeFileSync(join(folder, name), code);
  for (const name of ["sockets.ts", "mesh.ts"]) {
    copyFileSync(join(root, "examples/custom-backend", name), join(folder, name));
  }
  const config = { extends: join(root, "tsconfig.json"), include: ["*.ts"] };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config));
});
afterAll(() => rmSync(folder, { recursive: true }));

async function run(args: readonly string[]) {
  const child = Bun.spawn([process.execPath, ...args], {
    env: { ...process.env, NO_COLOR: "1", JOB_FOLDER: folder },
    cwd: folder,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: 40_000,
  });
  const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { exitCode: child.exitCode, stderr, lines: stdout.trim().split("\n").sort() };
}
const runRanks = (script: string) =>
  run([join(root, "src/cli/main.ts"), "run", "-n", "2", "--no-prefix", join(folder, script)]);

test("every example has a name, and compiles", () => {
  expect(page.match(/^```/gm)).toHaveLength(2 * files.size);
  const { stdout } = Bun.spawnSync({
    cmd: [process.execPath, join(root, "node_modules/typescript/bin/tsc"), "--noEmit", "-p", folder],
    cwd: folder,
    timeout: 50_000,
  });
  // What is wrong elsewhere in the package is the business of the step that compiles it.
  const lines = stdout.toString().split("\n");
  expect(lines.filter((line) => /^[^ .][^(]*\(\d+,\d+\): error/.test(line))).toEqual([]);
});

test("a lazy plugin of the parent, and middleware of the child", async () => {
  const { exitCode, stderr, lines } = await runRanks("train.ts");
  expect({ exitCode, stderr, count: lines.length }).toEqual({ exitCode: 0, stderr: "", count: 2 });
  for (const line of lines) expect(line).toContain('allReduce on group "0" (sockets, rank ');
});

test("a registry has backends by their types", async () => {
  const { exitCode, lines } = await run(["list.ts"]);
  expect(exitCode).toBe(0);
  expect(lines.join(" ")).toStartWith('gloo [ "cpu" ] ');
});

test("what the flight recorder has", async () => {
  const { exitCode, stderr, lines } = await run(["recorded.ts"]);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  expect(lines).toEqual([
    "allReduce #2 of 2 float32: scheduled, pending",
    expect.stringMatching(/^broadcast #1 of 3 bfloat16: completed, [\d.]+ ms$/),
  ]);
});

test("a scheme", async () => {
  const lines = ["rank 0 of 2: 1", "rank 1 of 2: 1"];
  expect(await runRanks("job.ts")).toEqual({ exitCode: 0, stderr: "", lines });
});

test("the page lists all tokens", () => {
  const source = readFileSync(join(root, "src/index.ts"), "utf8");
  const tokens = [...source.matchAll(/^ {2}([A-Z]+(?:_[A-Z]+)*),$/gm)].map(([, token = ""]) => token);
  expect(tokens).toContain("CLOCK");
  expect(tokens.filter((token) => token !== "BACKEND_SDK_VERSION" && !page.includes(`\`${token}\``))).toEqual([]);
});
