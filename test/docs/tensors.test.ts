import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CodeFolder, root } from "./code-folder.ts";

setDefaultTimeout(60_000);

// Runs the examples of docs/tensors.md in two ranks.

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

let folder: CodeFolder;
beforeAll(() => {
  folder = new CodeFolder(
    "tensors",
    examples.map((code, i) => [`${i}.ts`, code + (shown[i] ?? "")]),
  );
});
afterAll(() => folder[Symbol.dispose]());

test.each([0, 1])("example %d runs", async (i) => {
  expect(examples).toHaveLength(2);
  const lines = (expected[i] ?? []).map((line, rank) => `[rank ${rank}] ${line}`);
  expect(await folder.runRanks(`${i}.ts`, {}, [])).toMatchObject({ exitCode: 0, stderr: "", lines });
});
