import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

setDefaultTimeout(60_000);

// Compiles the middleware of docs/wrap-a-backend.md and runs it in two ranks.

const root = resolve(import.meta.dir, "../..");
const page = readFileSync(join(root, "docs/wrap-a-backend.md"), "utf8");
const files = Array.from(page.matchAll(/^```ts (\S+)\n([\s\S]*?)^```/gm), ([, name = "", code = ""]) => ({
  name,
  code,
}));

let folder = "";
beforeAll(() => {
  mkdirSync(join(root, "build"), { recursive: true });
  folder = mkdtempSync(join(root, "build/wrapping-")); // inside the package, where its own name resolves
  for (const { name, code } of files) writeFileSync(join(folder, name), code);
  const config = { extends: join(root, "tsconfig.json"), include: ["*.ts"] };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config));
});
afterAll(() => rmSync(folder, { recursive: true }));

test("every example has a name", () => {
  expect(files.map(({ name }) => name)).toEqual(["metrics.ts", "train.ts", "halved.ts"]);
  expect(page.match(/^```/gm)).toHaveLength(2 * files.length);
});

test("the examples compile", () => {
  const { stdout } = Bun.spawnSync({
    cmd: [process.execPath, join(root, "node_modules/typescript/bin/tsc"), "--noEmit", "-p", folder],
    cwd: folder,
    timeout: 50_000,
  });
  // What is wrong elsewhere in the package is the business of the step that compiles it.
  const lines = stdout.toString().split("\n");
  expect(lines.filter((line) => /^[^ .][^(]*\(\d+,\d+\): error/.test(line))).toEqual([]);
});

test("calls are changed, counted and timed", async () => {
  const script = join(folder, "job.ts");
  const train = files.find(({ name }) => name === "train.ts")?.code ?? "";
  const shown = `console.log([...totals].every(([, { ms }]) => ms > 0));\n`;
  writeFileSync(script, train + shown);
  const job = Bun.spawn([process.execPath, join(root, "src/cli/main.ts"), "run", "-n", "2", "--no-prefix", script], {
    env: { ...process.env, NO_COLOR: "1" },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: 40_000,
  });
  const [stdout, stderr] = await Promise.all([job.stdout.text(), job.stderr.text(), job.exited]);
  // Four elements of float32.
  const told = "Float64Array(4) [ 1, 2, 4, 6 ] 16 1";
  expect({ exitCode: job.exitCode, stderr, lines: stdout.trim().split("\n").sort() }).toEqual({
    exitCode: 0,
    stderr: "",
    lines: [told, told, "true", "true"],
  });
});

test("what the page says the context has is there", () => {
  const source = readFileSync(join(root, "src/registry/middleware.ts"), "utf8");
  const [, context = ""] = /interface GroupContext \{([\s\S]*?)\n\}/.exec(source) ?? [];
  const fields = Array.from(context.matchAll(/^ {2}(?:readonly )?(\w+)[:(]/gm), ([, field = ""]) => field);
  expect(fields.length).toBeGreaterThan(10);
  expect(fields.filter((field) => !page.includes(`\`${field}\``) && !page.includes(`\`${field}(`))).toEqual([]);
});
