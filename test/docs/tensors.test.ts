import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

setDefaultTimeout(60_000);

// Runs the examples of docs/tensors.md in two ranks.

const root = resolve(import.meta.dir, "../..");
const page = readFileSync(join(root, "docs/tensors.md"), "utf8");
const examples = Array.from(page.matchAll(/^```ts\n([\s\S]*?)^```/gm), ([, code = ""]) => code);
const shown = [
  "console.log(gradients.length, halves.length, flags.toNumbers());\n",
  "console.log(whole[0], whole[100], own[0]);\n",
];
const expected = [
  ["1000000 8192 [ 1, 0 ]", "1000000 8192 [ 1, 0 ]"],
  ["0 1 0", "0 2 2"],
];

let folder = "";
beforeAll(() => {
  mkdirSync(join(root, "build"), { recursive: true });
  folder = mkdtempSync(join(root, "build/tensors-")); // inside the package, where its own name resolves
});
afterAll(() => rmSync(folder, { recursive: true }));

test.each([0, 1])("example %d runs", async (i) => {
  expect(examples).toHaveLength(2);
  const script = join(folder, `${i}.ts`);
  writeFileSync(script, (examples[i] ?? "") + (shown[i] ?? ""));
  const job = Bun.spawn([process.execPath, join(root, "src/cli/main.ts"), "run", "-n", "2", script], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: 40_000,
  });
  const [stdout, stderr] = await Promise.all([job.stdout.text(), job.stderr.text(), job.exited]);
  const lines = stdout.trim().split("\n").sort();
  expect({ exitCode: job.exitCode, stderr, lines }).toEqual({
    exitCode: 0,
    stderr: "",
    lines: (expected[i] ?? []).map((line, rank) => `[rank ${rank}] ${line}`),
  });
});
