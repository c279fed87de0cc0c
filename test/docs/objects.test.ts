import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CodeFolder, root } from "./code-folder.ts";

setDefaultTimeout(60_000);

// Runs the example of docs/objects.md.

const page = readFileSync(join(root, "docs/objects.md"), "utf8");

let folder: CodeFolder;
beforeAll(() => {
  folder = new CodeFolder("objects", [["broadcast.ts", /^```ts\n([\s\S]*?)^```/m.exec(page)?.[1] ?? ""]]);
});
afterAll(() => folder[Symbol.dispose]());

test("an object is sent as it was at the call", async () => {
  const { exitCode, stdout: text, stderr } = await folder.runRanks("broadcast.ts", {}, []);
  expect([exitCode, stderr]).toEqual([0, ""]);
  for (const rank of [0, 1]) expect(text).toContain(`[rank ${rank}]   rate: 0.1,`);
  expect(text.match(/zero: -0,/g)).toHaveLength(2);
  expect(text.match(/none: undefined,/g)).toHaveLength(2);
});
